// Package storetest holds what every store.Journal promises, as tests that all of them pass.
package storetest
