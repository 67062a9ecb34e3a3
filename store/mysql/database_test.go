package mysql

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/mysqltest"
)

// TestRefused opens what cannot be used: each error names what to do.
func TestRefused(t *testing.T) {
	t.Parallel()
	base := options(t)
	name := base.DB
	user := fmt.Sprintf("u%.20s", strings.TrimPrefix(name, "kiteq_test_"))
	t.Cleanup(func() { mysqltest.Exec(t, "DROP USER IF EXISTS "+user) })
	mysqltest.Exec(t, "CREATE DATABASE "+name+" CHARACTER SET latin1", "CREATE USER "+user+" IDENTIFIED BY 'hunter2'")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	as := func(change func(*Options)) Options {
		o := base
		change(&o)
		return o
	}
	refuse := func(what string, o Options, code kite.Code, texts ...string) {
		t.Helper()
		d, err := Dial(o, slog.New(slog.DiscardHandler))
		if err == nil {
			_ = d.Close()
			t.Errorf("%s: opened", what)
			return
		}
		if kite.CodeOf(err) != code || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want code %s and no password", what, err, code)
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q", what, err, text)
			}
		}
	}
	refuse("nobody listens", as(func(o *Options) { o.Master = closed.Addr().String() }), kite.Unavailable, closed.Addr().String())
	refuse("wrong password", as(func(o *Options) { o.User, o.Password = user, "no hunter2" }), kite.Unauthorized, "check the user and the password", user)
	refuse("no grant at all", as(func(o *Options) { o.User, o.Password = user, "hunter2" }), kite.Unauthorized, "GRANT SELECT, INSERT, UPDATE, DELETE", name)
	refuse("wrong charset", base, kite.Invalid, "latin1", "ALTER DATABASE `"+name+"` CHARACTER SET utf8mb4")
	mysqltest.Exec(t, "ALTER DATABASE "+name+" CHARACTER SET utf8mb4")
	refuse("packet", as(func(o *Options) { o.MaxMessage = 1 << 40 }), kite.Invalid, "max_allowed_packet")
	mustDial(t, base)
	for i, privilege := range []string{"SELECT, INSERT, UPDATE", "SELECT, INSERT, DELETE", "SELECT, UPDATE, DELETE", "INSERT, UPDATE, DELETE"} {
		mysqltest.Exec(t, "GRANT "+privilege+" ON "+name+".* TO "+user)
		refuse(fmt.Sprint("grant ", i), as(func(o *Options) { o.User, o.Password = user, "hunter2" }), kite.Unauthorized, "GRANT SELECT")
		mysqltest.Exec(t, "REVOKE ALL PRIVILEGES, GRANT OPTION FROM "+user)
	}
	mysqltest.Exec(t, "GRANT SELECT, INSERT, UPDATE, DELETE ON "+name+".* TO "+user)
	mustDial(t, as(func(o *Options) { o.User, o.Password = user, "hunter2" })) // the tables are there
	refuse("other shards", as(func(o *Options) { o.Shards = 7 }), kite.Invalid, "shardnum=7", "made for 4")
	mysqltest.Exec(t, "UPDATE "+name+".kite_schema SET version=99")
	refuse("newer tables", base, kite.Invalid, "version 99", "this broker knows 1")
}

// TestMigrateAtOnce has many brokers make the tables of a new database at the same time.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	o := options(t)
	var dials sync.WaitGroup
	for range 6 {
		dials.Go(func() {
			d, err := Dial(o, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Errorf("dial: %v", err)
				return
			}
			_ = d.Close()
		})
	}
	dials.Wait()
	if d := mustDial(t, o); d.shards != defaultShards {
		t.Errorf("%d shards, want %d", d.shards, defaultShards)
	}
}

// TestHeld lists journals by owner, oldest first, with names as they are.
func TestHeld(t *testing.T) {
	t.Parallel()
	d := mustDial(t, options(t))
	first := mustCreate(t, d, "b").Held()
	mustCreate(t, d, "b ") // another name, whatever a collation thinks
	second := mustCreate(t, d, "b").Held()
	third := mustCreate(t, d, "c").Held()
	taken := mustClaim(t, d, third, "b").Held()
	got, err := d.Held("b")
	if err != nil || !slices.Equal(got, []Held{first, second, taken}) {
		t.Errorf("held: %+v, %v", got, err)
	}
	if all, err := d.Held(""); err != nil || len(all) != 4 {
		t.Errorf("held by all: %+v, %v", all, err)
	}
	if age := time.Since(time.UnixMilli(taken.SinceMs)); taken.Broker != "c" || taken.Epoch != 2 || age < 0 || age > time.Minute {
		t.Errorf("claimed: %+v", taken)
	}
	none, err := d.Held("nobody")
	if err != nil || len(none) != 0 {
		t.Errorf("held by nobody: %+v, %v", none, err)
	}
}

// TestPackets writes a batch that needs several packets: it is one transaction, and what is larger than the
// server takes is refused before.
func TestPackets(t *testing.T) {
	t.Parallel()
	d := mustDial(t, options(t))
	narrow := *d
	narrow.packet = packetMargin + 16<<10
	j := mustCreate(t, &narrow, "b")
	var batch []*kite.Record
	var want []string
	for i := range 60 {
		body := strings.Repeat(`'\"`+"\x00\n?;", 300+i)
		batch = append(batch, message("a", kite.Seq(i+1), body))
		want = append(want, body)
	}
	if err := j.Append(batch); err != nil {
		t.Fatal(err)
	}
	if j.tx.n < 5 {
		t.Errorf("%d packets for %d records, want several", j.tx.n, len(batch))
	}
	if got := bodies(t, j, "a"); !slices.Equal(got, want) {
		t.Errorf("%d bodies, want %d, each as it was", len(got), len(want))
	}
	err := j.Append([]*kite.Record{message("a", 61, strings.Repeat("x", 9<<10))})
	if !errors.Is(err, kite.TooLarge) || !strings.Contains(err.Error(), "max_allowed_packet") {
		t.Errorf("append of too large a record: %v, want code too large", err)
	}
	if err := j.Append([]*kite.Record{message("a", 61, "fits")}); err != nil {
		t.Error(err)
	}
}
