package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/kiteq/kiteq/internal/kite"
)

// record is the DDL that all tables of records share. Names are bytes: a collation would find "a" where "a "
// was asked for.
const record = `
  journal INT UNSIGNED NOT NULL,
  position BIGINT UNSIGNED NOT NULL,
  kind TINYINT UNSIGNED NOT NULL,
  command TINYINT UNSIGNED NOT NULL,
  attempts TINYINT UNSIGNED NOT NULL,
  id BINARY(16) NOT NULL,
  seq BIGINT UNSIGNED NOT NULL,
  time_ms BIGINT NOT NULL,
  expires_ms BIGINT NOT NULL,
  due_ms BIGINT NOT NULL,
  base BIGINT UNSIGNED NOT NULL,
  topic VARBINARY(255) NOT NULL,
  type VARBINARY(255) NOT NULL,
  grp VARBINARY(255) NOT NULL,
  body LONGBLOB NOT NULL,
  PRIMARY KEY (journal, position),
  KEY by_id (journal, id)`

const engine = ` ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin`

// versions makes the table with one row that says which version the others have, and how many shards.
const versions = `CREATE TABLE IF NOT EXISTS kite_schema (
  one TINYINT UNSIGNED NOT NULL PRIMARY KEY,
  version INT UNSIGNED NOT NULL,
  shards INT UNSIGNED NOT NULL
)` + engine

// schemaVersion is that of the newest migration.
const schemaVersion = 1

// migration returns the statements that lead to a version from the one before. Each may run twice: a broker
// may die between two of them.
func migration(version, shards int) []string {
	if version != 1 {
		panic(fmt.Sprintf("mysql: no migration to version %d", version))
	}
	table := func(name, body string) string {
		return "CREATE TABLE IF NOT EXISTS " + name + " (" + body + "\n)" + engine
	}
	all := []string{
		table("kite_journal", `
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  broker VARBINARY(255) NOT NULL,
  owner VARBINARY(255) NOT NULL,
  epoch BIGINT UNSIGNED NOT NULL,
  head BIGINT UNSIGNED NOT NULL,
  since_ms BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  covered BIGINT UNSIGNED NOT NULL,
  generation BIGINT UNSIGNED NOT NULL,
  KEY by_owner (owner)`),
		table("kite_unit", `
  journal INT UNSIGNED NOT NULL,
  position BIGINT UNSIGNED NOT NULL,
  newest_ms BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  PRIMARY KEY (journal, position)`),
		table("kite_checkpoint", `
  journal INT UNSIGNED NOT NULL,
  generation BIGINT UNSIGNED NOT NULL,
  number INT UNSIGNED NOT NULL,
  kind TINYINT UNSIGNED NOT NULL,
  body LONGBLOB NOT NULL,
  PRIMARY KEY (journal, generation, number)`),
	}
	for i := range shards {
		all = append(all, table(tableNames[i], record+",\n  KEY by_topic (journal, topic, seq)"))
	}
	// Columns that only one table has come last: an INSERT may leave them out.
	withState := record + ",\n  state TINYINT UNSIGNED NOT NULL DEFAULT 0"
	return append(all,
		table(tableNames[preparedTable], withState),
		table(tableNames[delayedTable], withState+",\n  minute BIGINT NOT NULL,\n  KEY by_minute (journal, minute, seq)"),
		table(tableNames[decisionTable], record),
		table(tableNames[progressTable], record),
		table(tableNames[deadTable], record+",\n  KEY by_group (journal, topic, grp, seq)"),
		table(tableNames[orderTable], record),
	)
}

// migrate brings the tables to schemaVersion and returns how many shards they have. Brokers that start at the
// same time do it one after the other.
func migrate(db *sql.DB, o Options) (shards int, err error) {
	ctx := &lifetime{} // never ends
	conn, err := db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	lock := "kiteq." + o.DB[:min(len(o.DB), 50)]
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?,15)", lock).Scan(&got); err != nil {
		return 0, err
	}
	if got.Int64 != 1 {
		return 0, kite.Errorf(kite.Unavailable, "another broker has been making the tables of database %s for 15s", o.DB)
	}
	defer func() {
		_, unlock := conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", lock)
		err = errors.Join(err, unlock)
	}()
	return migrateLocked(ctx, conn, o)
}

func migrateLocked(ctx context.Context, conn *sql.Conn, o Options) (shards int, err error) {
	version := 0
	read := func() error {
		return conn.QueryRowContext(ctx, "SELECT version,shards FROM kite_schema WHERE one=1").Scan(&version, &shards)
	}
	if err = read(); isServer(err, errNoTable) {
		if _, err = conn.ExecContext(ctx, versions); err == nil {
			err = read()
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		if shards = o.Shards; shards == 0 {
			shards = defaultShards
		}
		_, err = conn.ExecContext(ctx, "INSERT INTO kite_schema VALUES(1,0,?)", shards)
	}
	switch {
	case err != nil:
		return 0, err
	case version > schemaVersion:
		return 0, kite.Errorf(kite.Invalid, "database %s has tables of version %d, this broker knows %d: use the newer broker that made them", o.DB, version, schemaVersion)
	case o.Shards != 0 && o.Shards != shards:
		return 0, kite.Errorf(kite.Invalid, "shardnum=%d: the tables of database %s were made for %d: leave it out, or use another db", o.Shards, o.DB, shards)
	}
	for version < schemaVersion {
		version++
		for _, statement := range migration(version, shards) {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return 0, err
			}
		}
		if _, err := conn.ExecContext(ctx, "UPDATE kite_schema SET version=? WHERE one=1", version); err != nil {
			return 0, err
		}
	}
	return shards, nil
}
