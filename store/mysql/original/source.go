package original

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/internal/kite"
)

// hashes is over how many tables the original spreads its messages, by the last digit of their ids.
const hashes = 16

// Table is one table of a deployment.
type Table struct {
	Database, Name string
	// Dead tells that it holds what the original gave up.
	Dead bool
}

func (t Table) String() string { return t.Database + "." + t.Name }

func (t Table) quoted() string { return "`" + t.Database + "`.`" + t.Name + "`" }

// Tables returns where a deployment with this db and shardnum keeps its messages. shards divides 16.
func Tables(db string, shards int) ([]Table, error) {
	if db == "" || strings.ContainsAny(db, "`./\\") {
		return nil, kite.Errorf(kite.Invalid, "db %q: give the name of the databases without their _0, _1, …", db)
	}
	if shards < 1 || hashes%shards != 0 {
		return nil, kite.Errorf(kite.Invalid, "shardnum %d: it is 1, 2, 4, 8 or 16", shards)
	}
	var tables []Table
	for i := range shards {
		database := fmt.Sprintf("%s_%d", db, i)
		for n := range hashes / shards {
			tables = append(tables, Table{Database: database, Name: fmt.Sprintf("kite_msg_%d", n)})
		}
		tables = append(tables, Table{Database: database, Name: "kite_msg_dlq", Dead: true})
	}
	return tables, nil
}

// Row is one message as the original keeps it.
type Row struct {
	ID        int64
	MessageID string
	Header    []byte // encoded Header
	Body      []byte // as its publisher gave it
	Command   uint8  // 0x11 or 0x12
	Topic     string
	Type      string
	Group     string // the publisher's
	Committed bool
	ExpiresS  int64 // Unix seconds
	StoredS   int64 // Unix seconds, by the broker's clock
	Limit     int   // delivery attempts
	Attempts  int   // made
	Server    string
	// Failed and Settled are the groups of the last attempt that did not take it, and those that did.
	Failed, Settled []string
}

const columns = "id, message_id, header, body, COALESCE(msg_type, 0), topic, message_type, publish_group, commit, COALESCE(expired_time, 0), " +
	"COALESCE(publish_time, 0), COALESCE(deliver_limit, 0), COALESCE(deliver_count, 0), kite_server, fail_groups, succ_groups"

// Check tells whether the tables are there and can be read, with an error that names each that is not.
func Check(ctx context.Context, db *sql.DB, tables []Table) error {
	var problems []error
	for _, t := range tables {
		rows, err := db.QueryContext(ctx, "SELECT "+columns+" FROM "+t.quoted()+" LIMIT 0")
		if err == nil {
			err = errors.Join(rows.Err(), rows.Close())
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("table %s: %w", t, explain(err)))
		}
	}
	return errors.Join(problems...)
}

// explain adds what to do about an error of the server.
func explain(err error) error {
	var refused *mysql.MySQLError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Number {
	case 1049, 1146: // no such database, no such table
		return fmt.Errorf("%w: are db and shardnum those of the old brokers?", err)
	case 1054: // no such column
		return fmt.Errorf("%w: this is no table of the original KiteQ", err)
	case 1044, 1142: // denied
		return fmt.Errorf("%w: grant SELECT on it", err)
	}
	return err
}

// Count returns how many rows with a greater id the table has.
func Count(ctx context.Context, db *sql.DB, t Table, after int64) (n int64, err error) {
	err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+t.quoted()+" WHERE id > ?", after).Scan(&n)
	if err != nil {
		err = fmt.Errorf("table %s: %w", t, explain(err))
	}
	return n, err
}

// Page returns up to limit rows in the order of their ids, those greater than after.
func Page(ctx context.Context, db *sql.DB, t Table, after int64, limit int) (_ []Row, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("table %s behind id %d: %w", t, after, explain(err))
		}
	}()
	rows, err := db.QueryContext(ctx, "SELECT "+columns+" FROM "+t.quoted()+" WHERE id > ? ORDER BY id LIMIT ?", after, limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	page := make([]Row, 0, limit)
	for rows.Next() {
		var r Row
		var topic, kind, group, server, failed, settled sql.NullString
		var commit sql.NullBool
		if err := rows.Scan(&r.ID, &r.MessageID, &r.Header, &r.Body, &r.Command, &topic, &kind, &group, &commit,
			&r.ExpiresS, &r.StoredS, &r.Limit, &r.Attempts, &server, &failed, &settled); err != nil {
			return nil, err
		}
		r.Topic, r.Type, r.Group, r.Server, r.Committed = topic.String, kind.String, group.String, server.String, commit.Bool
		if r.Failed, err = groups(failed.String); err == nil {
			r.Settled, err = groups(settled.String)
		}
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", r.ID, err)
		}
		page = append(page, r)
	}
	return page, rows.Err()
}

// groups reads a list of groups: a JSON array, or null, or nothing.
func groups(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	var names []string
	if err := json.Unmarshal([]byte(text), &names); err != nil {
		return nil, fmt.Errorf("groups %.80q: %w", text, err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
