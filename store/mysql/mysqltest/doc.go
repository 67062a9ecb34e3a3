// Package mysqltest gives the tests of other packages journals in a real MySQL database.
package mysqltest
