// Package dbtest opens real databases for tests, sees who waits for a lock in them, and loses connections on
// purpose: MariaDB or MySQL, PostgreSQL, and SQLite in a file of its own.
package dbtest
