package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/memory"
	"github.com/kiteq/kiteq/store/mysql/original"
	"github.com/kiteq/kiteq/store/mysql/original/originaltest"
)

const importedAtS = 1_800_000_000

// oldRow is the n-th message of an old deployment.
func oldRow(n int) original.Row {
	h := protocol.Header{
		MessageID: fmt.Sprintf("%032x", n*7), Topic: []string{"trade", "fee"}[n%2], MessageType: "pay", GroupID: "p-old",
		ExpiredTime: importedAtS + 1000, DeliverLimit: 5, CreateTime: importedAtS - 50, Properties: map[string]string{"n": fmt.Sprint(n)},
	}
	frame, _, err := protocol.FramingG.Next(protocol.AppendMessage(nil, protocol.FramingG, 0, protocol.CmdBytesMessage, &h, nil))
	if err != nil {
		panic(err)
	}
	var m protocol.MessageView
	if err := m.Decode(frame.Payload); err != nil {
		panic(err)
	}
	return original.Row{
		MessageID: h.MessageID, Header: m.Header.Raw, Body: fmt.Appendf(nil, "body %d", n), Command: uint8(protocol.CmdBytesMessage),
		Topic: h.Topic, Type: h.MessageType, Group: h.GroupID, Committed: true,
		ExpiresS: h.ExpiredTime, StoredS: int64(importedAtS - 1000 + n), Limit: 5, Attempts: 2, Server: "old-host",
	}
}

// target is a journal in memory that keeps what was appended, and fails where it is told to.
type target struct {
	store.Journal
	records []kite.Record
	appends int
	failAt  int // the append that fails, 0: none
}

var errTarget = errors.New("told to fail")

func newTarget(t *testing.T) *target {
	t.Helper()
	j, err := memory.New(memory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &target{Journal: j}
}

func (j *target) Append(batch []*kite.Record) error {
	if j.appends++; j.appends == j.failAt {
		return errTarget
	}
	if err := j.Journal.Append(batch); err != nil {
		return err
	}
	for _, r := range batch {
		j.records = append(j.records, *r)
	}
	return nil
}

// importing is an importer into the journal, with its state.
func importing(d *originaltest.Deployment, j store.Journal, state *importState) (i *importer, left map[string]string) {
	left = map[string]string{}
	i = &importer{
		from: d.DB, journal: j, now: func() time.Time { return time.Unix(importedAtS, 0) }, tally: state.Tally, first: state.First, moved: func(int) {},
		skip: func(_ original.Table, r *original.Row, why string) { left[r.MessageID] = why },
	}
	i.save = func(done map[string]int64) error {
		state.Done, state.Tally = maps.Clone(done), i.tally
		return nil
	}
	return i, left
}

func noState() *importState {
	return &importState{Done: map[string]int64{}, First: map[string]kite.Seq{}}
}

// TestImport: rows become what a broker would have made of them, in the order in which they were stored.
func TestImport(t *testing.T) {
	t.Parallel()
	d := originaltest.New(t, 4)
	for n := range 40 {
		r := oldRow(n)
		switch n {
		case 4:
			r.Settled, r.Failed = []string{"s-a", "s-b"}, []string{"s-c"}
		case 6:
			r.Committed = false
		case 8:
			r.ExpiresS = importedAtS - 1
		case 10:
			r.MessageID = "not-hexadecimal"
		case 12:
			r.Command = 99
		case 14:
			r.Header = []byte{0xff}
		case 16:
			r.Topic = "a/b"
		case 18:
			r.Limit, r.ExpiresS = 0, 0
		case 20:
			r.Settled, r.Failed, r.Attempts = []string{"s-a"}, []string{"s-b", "s-c"}, 300
			d.InsertInto(d.Name+"_1.kite_msg_dlq", r)
			continue
		}
		d.Insert(r)
	}
	tables, err := original.Tables(d.Name, 4)
	if err != nil {
		t.Fatal(err)
	}
	j, state := newTarget(t), noState()
	i, left := importing(d, j, state)
	got, err := i.run(t.Context(), tables, state.Done)
	if err != nil {
		t.Fatal(err)
	}
	if want := (tally{Messages: 34, Prepared: 1, Letters: 2, Expired: 1, Skipped: 4}); got != want {
		t.Errorf("tally %+v, want %+v", got, want)
	}
	if err := i.check(t.Context(), 40); err != nil {
		t.Error(err)
	}
	if err := i.check(t.Context(), 41); err == nil || !strings.Contains(err.Error(), "do the old brokers still run?") {
		t.Errorf("a row too few: %v", err)
	}
	why := map[string]string{
		"not-hexadecimal": "32 hexadecimal digits", oldRow(12).MessageID: "msg_type 99", oldRow(14).MessageID: "header", oldRow(16).MessageID: `"a/b"`,
	}
	for id, text := range why {
		if !strings.Contains(left[id], text) {
			t.Errorf("row %s is left out with %q, want %q in it", id, left[id], text)
		}
	}
	var order []string
	err = j.Read("trade", 1, func(r *kite.Record) bool {
		var m protocol.MessageView
		if err := m.Decode(r.Body); err != nil || !m.Header.Commit {
			t.Errorf("message %s: %v, commit %v", r.ID, err, m.Header.Commit)
		}
		order = append(order, string(m.Body))
		if string(m.Body) == "body 18" && (m.Header.DeliverLimit != kite.MaxDeliverLimit || r.ExpiresMs != (importedAtS+7*24*3600)*1000) {
			t.Errorf("a message without a limit and an end got %d and %d", m.Header.DeliverLimit, r.ExpiresMs)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := 0; n < 40; n += 2 {
		if n < 6 || n > 16 {
			want = append(want, fmt.Sprint("body ", n))
		}
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("messages of trade (-want +got):\n%s", diff)
	}
	taken := map[string]bool{}
	var letters []string
	for _, r := range j.records {
		switch r.Kind {
		case kite.KindProgress:
			var s kite.Standing
			if err := s.Apply(r.Body); err != nil {
				t.Fatal(err)
			}
			taken[fmt.Sprint(string(r.Group), s.Floor(), s.Ranges())] = true
		case kite.KindDead:
			l, err := kite.DecodeDeadLetter(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			letters = append(letters, fmt.Sprintf("%s %d: seq %d, %d attempts", r.Group, r.Seq, l.Seq, l.Attempts))
		case kite.KindPrepared:
			if r.ID.String() != oldRow(6).MessageID || r.Seq != 0 || string(r.Group) != "p-old" {
				t.Errorf("undecided: %+v", r)
			}
		}
	}
	if diff := cmp.Diff(map[string]bool{"s-a1 [{3 4}]": true, "s-b1 [{3 4}]": true, "s-a1 [{5 6}]": true}, taken); diff != "" {
		t.Errorf("who has taken what (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"s-b 1: seq 5, 100 attempts", "s-c 1: seq 5, 100 attempts"}, letters); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
}

// TestImportGoesOn: an import that fails anywhere goes on where it was, and everything is there once.
func TestImportGoesOn(t *testing.T) {
	t.Parallel()
	const rows = 3*importRows + 10
	d := originaltest.New(t, 2)
	for n := range rows {
		d.Insert(oldRow(n))
	}
	tables, err := original.Tables(d.Name, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name         string
		failAt       int
		failSave     int
		again        int // rows that the second run finds there
		wantMessages int
	}{
		{"the second append fails", 2, 0, 0, rows},
		{"the second save fails", 0, 2, importRows, rows - importRows},
		{"the last save fails", 0, 4, 10, rows - 10},
	} {
		j, state := newTarget(t), noState()
		j.failAt = c.failAt
		i, _ := importing(d, j, state)
		save, saves := i.save, 0
		i.save = func(done map[string]int64) error {
			if saves++; saves == c.failSave {
				return errTarget
			}
			return save(done)
		}
		if _, err := i.run(t.Context(), tables, state.Done); !errors.Is(err, errTarget) {
			t.Fatalf("%s: %v", c.name, err)
		}
		i, _ = importing(d, j, state)
		got, err := i.run(context.Background(), tables, state.Done)
		if err != nil {
			t.Fatalf("%s: again: %v", c.name, err)
		}
		if got.Messages != c.wantMessages || got.Again != c.again {
			t.Errorf("%s: %+v, want %d messages and %d that were there", c.name, got, c.wantMessages, c.again)
		}
		ids := map[kite.MessageID]int{}
		for _, r := range j.records {
			ids[r.ID]++
		}
		if len(ids) != rows || len(j.records) != rows {
			t.Errorf("%s: %d records of %d messages, want each of %d once", c.name, len(j.records), len(ids), rows)
		}
		if err := i.check(t.Context(), rows); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestImportCommand runs the command over real databases, stops it, and runs it again.
func TestImportCommand(t *testing.T) {
	d := originaltest.New(t, 4)
	const rows = 600
	for n := range rows {
		r := oldRow(n)
		r.ExpiresS = time.Now().Unix() + 1000
		d.Insert(r)
	}
	t.Cleanup(func() { d.Exec("DROP DATABASE IF EXISTS " + d.Name + "_new") })
	from := fmt.Sprintf("mysql://%s@%s?db=%s&shardnum=4&flushSeconds=1", d.User, d.Addr, d.Name)
	to := fmt.Sprintf("mysql://%s@%s?db=%s_new", d.User, d.Addr, d.Name)
	state := filepath.Join(t.TempDir(), "state.json")
	b := setup(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--from", "x", "--to", to}, exitUsage, "--from: store \"x\": use mysql://"},
		{[]string{"--from", from, "--to", ""}, exitUsage, "--to: "},
		{[]string{"--from", strings.Replace(from, "shardnum=4", "shardnum=8", 1), "--to", to}, exitError, "are db and shardnum those of the old brokers?"},
		{[]string{"--from", strings.Replace(from, "shardnum=4", "shardnum=5", 1), "--to", to}, exitUsage, "shardnum 5: it is 1, 2, 4, 8 or 16"},
		{[]string{"--from", from, "--to", to, "--broker", "b1"}, exitOK, "600 rows: 600 messages, 0 undecided, 0 dead letters; 0 expired, 0 were there, 0 left out; journal 1 of broker b1"},
		{[]string{"--from", from, "--to", to, "--broker", "b1"}, exitOK, "600 rows: 600 messages"},
		{[]string{"--from", from, "--to", to, "--broker", "b2"}, exitError, "journal 1, where the import began, is broker b1's now"},
	} {
		got := b.run("", append([]string{"import-mysql", "--state", state}, c.args...)...)
		if got.code != c.code || !strings.Contains(got.out+got.err, c.want) {
			t.Errorf("%q: code %d, %s%s; want %d and %q", c.args, got.code, got.out, got.err, c.code, c.want)
		}
	}
	for n := range 7 { // the old broker was not stopped
		r := oldRow(rows + n)
		r.ExpiresS = time.Now().Unix() + 1000
		d.Insert(r)
	}
	got := b.run("", "import-mysql", "--state", state, "--from", from, "--to", to, "--broker", "b1", "-o", "json")
	if got.code != exitOK || !strings.Contains(got.out, `"rows":607`) || !strings.Contains(got.out, `"messages":607`) {
		t.Errorf("seven more: code %d, %s%s", got.code, got.out, got.err)
	}
}
