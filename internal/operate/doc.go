// Package operate has the shapes of the operators' HTTP interface: server/admin writes them, kiteqctl reads them.
package operate
