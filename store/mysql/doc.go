// Package mysql keeps a journal in a MySQL or MariaDB database that several brokers share. Each broker writes
// the journals that it owns; an epoch in every write fences off the owner before.
package mysql
