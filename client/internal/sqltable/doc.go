// Package sqltable keeps one small table of write-once rows in a user's database: each row has a key, is
// written by whoever comes first, never changes, and is trimmed when it is old. It imports no driver.
package sqltable
