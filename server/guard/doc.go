// Package guard has publishes refused before the disk or the memory is used up.
package guard
