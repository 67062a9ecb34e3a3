// Package originaltest makes tables as the original KiteQ's script does (interop contract §9.5).
package originaltest

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/kiteq/kiteq/internal/mysqltest"
	"github.com/kiteq/kiteq/store/mysql/original"
)

const table = "CREATE TABLE %s (id int NOT NULL AUTO_INCREMENT, header mediumblob, body mediumblob, msg_type tinyint unsigned, " +
	"message_id varchar(32) NOT NULL, topic varchar(255), message_type varchar(255), publish_group varchar(255), commit tinyint(1), " +
	"expired_time bigint, publish_time bigint, deliver_count int, deliver_limit int, kite_server varchar(255), fail_groups varchar(255), " +
	"succ_groups varchar(255), next_deliver_time bigint, PRIMARY KEY (id), UNIQUE KEY idx_message_id (message_id), KEY idx_commit (commit), " +
	"KEY idx_expired_time (expired_time), KEY idx_kite_server (kite_server), " +
	"KEY idx_recover_a (next_deliver_time, kite_server, expired_time, deliver_count, deliver_limit)) ENGINE=InnoDB DEFAULT CHARSET=utf8"

// Deployment is the tables of one original KiteQ.
type Deployment struct {
	t      testing.TB
	DB     *sql.DB // of the server, no database is chosen
	Name   string  // db of the old brokers' URL
	Addr   string  // host:port of the server
	User   string
	shards int
}

// New makes a deployment of empty tables until the test ends, or skips the test.
func New(t testing.TB, shards int) *Deployment {
	t.Helper()
	c := mysqltest.Server(t)
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	d := &Deployment{t: t, DB: sql.OpenDB(connector), Name: fmt.Sprintf("kite_%d_%d", os.Getpid(), rand.Uint32()), Addr: c.Addr, User: c.User, shards: shards}
	t.Cleanup(func() {
		for i := range shards {
			d.Exec(fmt.Sprintf("DROP DATABASE IF EXISTS %s_%d", d.Name, i))
		}
		d.DB.Close()
	})
	tables, err := original.Tables(d.Name, shards)
	if err != nil {
		t.Fatal(err)
	}
	for i := range shards {
		d.Exec(fmt.Sprintf("CREATE DATABASE %s_%d DEFAULT CHARSET utf8", d.Name, i))
	}
	for _, at := range tables {
		d.Exec(fmt.Sprintf(table, at))
	}
	return d
}

// Exec runs a statement.
func (d *Deployment) Exec(statement string, args ...any) {
	d.t.Helper()
	if _, err := d.DB.Exec(statement, args...); err != nil {
		d.t.Fatalf("%.60s: %v", statement, err)
	}
}

// Insert adds the row where an original broker would, and returns that table's name.
func (d *Deployment) Insert(r original.Row) (table string) {
	d.t.Helper()
	hash, err := strconv.ParseUint(r.MessageID[len(r.MessageID)-1:], 16, 8)
	if err != nil {
		hash = 0
	}
	each := uint64(16 / d.shards)
	table = fmt.Sprintf("%s_%d.kite_msg_%d", d.Name, hash/each, hash%each)
	d.InsertInto(table, r)
	return table
}

// InsertInto adds the row to the table.
func (d *Deployment) InsertInto(table string, r original.Row) {
	d.t.Helper()
	d.Exec("INSERT INTO "+table+" (header, body, msg_type, message_id, topic, message_type, publish_group, commit, expired_time, publish_time, "+
		"deliver_count, deliver_limit, kite_server, fail_groups, succ_groups, next_deliver_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
		r.Header, r.Body, r.Command, r.MessageID, r.Topic, r.Type, r.Group, r.Committed, r.ExpiresS, r.StoredS,
		r.Attempts, r.Limit, r.Server, names(r.Failed), names(r.Settled))
}

// names is how the original writes a list of groups.
func names(list []string) string {
	text, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return string(text)
}
