package sqltable

import (
	"fmt"
	"strconv"
	"strings"
)

// Dialect names the kind of database: what its statements look like.
type Dialect uint8

// The dialects.
const (
	MySQL      Dialect = iota + 1 // MySQL 5.7 or newer, and MariaDB: InnoDB tables
	PostgreSQL                    // 9.5 or newer
	SQLite                        // 3.24 or newer
)

func (d Dialect) String() string {
	switch d {
	case MySQL:
		return "MySQL"
	case PostgreSQL:
		return "PostgreSQL"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("dialect %d", uint8(d))
}

// Kind is what a column holds.
type Kind uint8

// The kinds.
const (
	ID   Kind = iota + 1 // a message id: 32 hexadecimal digits
	Name                 // up to 255 bytes, compared byte by byte
	Word                 // up to 16 ASCII letters
)

// typeOf is the column type. MySQL's usual collations find "a" and "A" equal, and its text keys are
// limited in bytes of the widest characters, hence the words after the type.
func (d Dialect) typeOf(k Kind) string {
	switch {
	case d == SQLite:
		return "TEXT NOT NULL"
	case d == PostgreSQL:
		return `TEXT COLLATE "C" NOT NULL`
	case k == ID:
		return "CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL"
	case k == Name:
		return "VARBINARY(255) NOT NULL"
	}
	return "VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL"
}

// ddl returns the statements that create the table and the index on when its rows were written. MySQL has
// no CREATE INDEX IF NOT EXISTS, so there the index is a part of the table.
func (d Dialect) ddl(table string, columns []Column) []string {
	var lines, keys []string
	for _, c := range columns {
		lines = append(lines, c.Name+" "+d.typeOf(c.Kind))
		if c.Key {
			keys = append(keys, c.Name)
		}
	}
	lines = append(lines, "created_ms BIGINT NOT NULL", "PRIMARY KEY ("+strings.Join(keys, ", ")+")")
	if d == MySQL {
		lines = append(lines, "INDEX "+table+"_created (created_ms)")
	}
	create := "CREATE TABLE IF NOT EXISTS " + table + " (\n  " + strings.Join(lines, ",\n  ") + "\n)"
	if d == MySQL {
		return []string{create + " ENGINE=InnoDB"}
	}
	return []string{create, "CREATE INDEX IF NOT EXISTS " + table + "_created ON " + table + " (created_ms)"}
}

// insert returns the statement that writes a row unless its key is there. In each of the databases it
// waits when the key was written by a transaction that has not ended, and goes on as that one ended:
//
//   - MySQL: the new key's duplicate is locked until its transaction ends. ON DUPLICATE KEY UPDATE would
//     wait as well, but says "1 row" for both cases when the connection counts found rows.
//   - PostgreSQL: ON CONFLICT DO NOTHING waits for the inserting transaction.
//   - SQLite: the first statement that writes takes the one write lock, so nothing is ever half done when
//     this one runs; it waits for the lock as long as busy_timeout says.
func (d Dialect) insert(table string, columns []Column) string {
	names, marks := "", ""
	for _, c := range columns {
		names += c.Name + ", "
		marks += "?, "
	}
	into := "INTO " + table + " (" + names + "created_ms) VALUES (" + marks + "?)"
	if d == MySQL {
		return "INSERT IGNORE " + into
	}
	return d.bind("INSERT " + into + " ON CONFLICT DO NOTHING")
}

// read returns the statement that reads the row of a key after insert found it there. In MySQL it has to
// be a locking read: a plain one may look at a snapshot from before the row. It takes the lock that the
// insert took already, a shared one: two that waited together would dead-lock over a stronger one.
func (d Dialect) read(table string, columns []Column) string {
	var values, keys []string
	for _, c := range columns {
		if c.Key {
			keys = append(keys, c.Name+" = ?")
		} else {
			values = append(values, c.Name)
		}
	}
	query := "SELECT " + strings.Join(append(values, "created_ms"), ", ") + " FROM " + table + " WHERE " + strings.Join(keys, " AND ")
	if d == MySQL {
		query += " LOCK IN SHARE MODE"
	}
	return d.bind(query)
}

// bind turns the placeholders, question marks, into the dialect's.
func (d Dialect) bind(query string) string {
	if d != PostgreSQL {
		return query
	}
	var out strings.Builder
	n := 0
	for _, r := range query {
		if r != '?' {
			out.WriteRune(r)
			continue
		}
		n++
		out.WriteString("$" + strconv.Itoa(n))
	}
	return out.String()
}
