package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
	"github.com/kiteq/kiteq/store"
	"github.com/kiteq/kiteq/store/mysql/original"
)

// importer moves rows of the original into a journal. The tables are merged by the time at which their rows
// were stored, so that a topic's messages keep their order as far as the original kept it.
//
// What has gone where is the tables' last id, saved after each batch. So a batch that was appended and not
// saved is read again, which the journal's ids tell.
type importer struct {
	from    *sql.DB
	journal store.Journal
	now     func() time.Time
	save    func(done map[string]int64) error
	first   map[string]kite.Seq // where the import began in each stream
	moved   func(rows int)      // progress
	skip    func(t original.Table, r *original.Row, why string)

	tables []*reading
	next   map[string]kite.Seq
	batch  []*kite.Record
	bytes  int
	rows   int              // of the batch
	done   map[string]int64 // last ids with the batch
	tally  tally
}

// tally counts what became of the rows.
type tally struct {
	Messages int `json:"messages"`
	Prepared int `json:"prepared"`
	Letters  int `json:"dead_letters"`
	Again    int `json:"already_there"`
	Expired  int `json:"expired"`
	Skipped  int `json:"skipped"`
}

func (t tally) rows() int { return t.Messages + t.Prepared + t.Again + t.Expired + t.Skipped }

// reading is how far a table is read.
type reading struct {
	original.Table
	page  []original.Row
	after int64 // last id read
	// doubtful counts the rows that may have been moved by a run that did not save it.
	doubtful int
	ended    bool
}

const (
	importRows  = 256     // of a page, and at most of a batch
	importBytes = 4 << 20 // of a batch's bodies, but for one that is larger alone
)

// run moves all rows behind done, the last ids of an earlier run.
func (i *importer) run(ctx context.Context, tables []original.Table, done map[string]int64) (tally, error) {
	i.next, i.done = map[string]kite.Seq{}, map[string]int64{}
	for _, t := range tables {
		r := &reading{Table: t, after: done[t.String()], doubtful: importRows}
		if r.after == 0 {
			delete(done, t.String())
		}
		i.done[t.String()] = r.after
		i.tables = append(i.tables, r)
	}
	for {
		t, err := i.oldest(ctx)
		if err != nil {
			return i.tally, err
		}
		if t == nil {
			return i.tally, i.flush()
		}
		row := &t.page[0]
		t.page = t.page[1:]
		if err := i.add(t, row); err != nil {
			return i.tally, fmt.Errorf("table %s, row %d: %w", t, row.ID, err)
		}
		i.done[t.String()] = row.ID
		if i.rows++; i.rows == importRows || i.bytes >= importBytes {
			if err := i.flush(); err != nil {
				return i.tally, err
			}
		}
	}
}

// oldest returns the table whose next row was stored first, nil at the end.
func (i *importer) oldest(ctx context.Context) (first *reading, err error) {
	for _, t := range i.tables {
		if len(t.page) == 0 && !t.ended {
			if t.page, err = original.Page(ctx, i.from, t.Table, t.after, importRows); err != nil {
				return nil, err
			}
			if t.ended = len(t.page) == 0; !t.ended {
				t.after = t.page[len(t.page)-1].ID
			}
		}
		if len(t.page) > 0 && (first == nil || t.page[0].StoredS < first.page[0].StoredS) {
			first = t
		}
	}
	return first, nil
}

// add makes records of the row, unless it is of no use any more.
func (i *importer) add(t *reading, row *original.Row) error {
	id, err := i.admit(t, row)
	if err != nil {
		i.tally.Skipped++
		i.skip(t.Table, row, err.Error())
		return nil
	}
	nowMs := kite.UnixMs(i.now())
	if row.ExpiresS > 0 && row.ExpiresS*1000 <= nowMs && !t.Dead {
		i.tally.Expired++
		return nil
	}
	if t.doubtful > 0 {
		t.doubtful--
		if there, err := i.has(id); there || err != nil {
			i.tally.Again++
			return err
		}
	}
	r, err := record(row, id, nowMs)
	if err != nil {
		i.tally.Skipped++
		i.skip(t.Table, row, err.Error())
		return nil
	}
	i.bytes += len(r.Body)
	if r.Kind == kite.KindPrepared {
		i.tally.Prepared++
		i.batch = append(i.batch, r)
		return nil
	}
	i.tally.Messages++
	r.Seq = i.place(r.Topic)
	i.batch = append(i.batch, r)
	for _, group := range row.Settled {
		p := kite.Progress{Settled: []kite.Range{{From: r.Seq, To: r.Seq + 1}}}
		i.batch = append(i.batch, &kite.Record{Kind: kite.KindProgress, TimeMs: nowMs, Topic: r.Topic, Group: []byte(group), Body: kite.AppendProgress(nil, &p)})
	}
	if t.Dead {
		i.bury(r, row)
	}
	return nil
}

// admit returns the row's id, or why it cannot be moved.
func (i *importer) admit(t *reading, row *original.Row) (id kite.MessageID, err error) {
	id, ok := kite.ParseMessageID(row.MessageID)
	switch {
	case !ok:
		return id, fmt.Errorf("message_id %.80q: it is not 32 hexadecimal digits", row.MessageID)
	case row.Command != uint8(protocol.CmdBytesMessage) && row.Command != uint8(protocol.CmdStringMessage):
		return id, fmt.Errorf("msg_type %d: it is neither 17 nor 18", row.Command)
	case !row.Committed && t.Dead:
		return id, errors.New("a dead letter that was never committed")
	case len(row.Type) > kite.MaxName:
		return id, fmt.Errorf("message_type of %d bytes: at most %d", len(row.Type), kite.MaxName)
	}
	if err := kite.CheckTopic(row.Topic); err != nil {
		return id, err
	}
	for _, group := range append(append([]string{row.Group}, row.Settled...), row.Failed...) {
		if err := kite.CheckGroup(group); err != nil {
			return id, err
		}
	}
	return id, nil
}

// record is the row as the journal keeps it: with the header that a broker would give it now.
func record(row *original.Row, id kite.MessageID, nowMs int64) (*kite.Record, error) {
	payload := protocol.AppendPayload(nil, row.Header, row.Body)
	var m protocol.MessageView
	if err := m.Decode(payload); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	n := protocol.Normal{ExpiredTime: row.ExpiresS, DeliverLimit: int32(row.Limit), CreateTime: m.Header.CreateTime, Commit: true}
	if latest := nowMs/1000 + int64(kite.MaxLifetime/time.Second); n.ExpiredTime <= 0 || n.ExpiredTime > latest {
		n.ExpiredTime = latest
	}
	if n.DeliverLimit <= 0 || n.DeliverLimit > kite.MaxDeliverLimit {
		n.DeliverLimit = kite.MaxDeliverLimit
	}
	if n.CreateTime <= 0 {
		n.CreateTime = max(row.StoredS, 1)
	}
	r := &kite.Record{
		Kind: kite.KindMessage, Command: row.Command, Limit: uint8(n.DeliverLimit), ID: id, TimeMs: nowMs,
		ExpiresMs: n.ExpiredTime * 1000, Topic: row.Topic, Type: []byte(row.Type), Group: []byte(row.Group),
		Body: protocol.AppendNormalised(nil, payload, &m, n),
	}
	if !row.Committed {
		r.Kind = kite.KindPrepared
	}
	if len(r.Body) > kite.MaxPayload {
		return nil, fmt.Errorf("%d bytes: a message has at most %d", len(r.Body), kite.MaxPayload)
	}
	return r, nil
}

// bury adds the message to the dead letters of the groups that did not take it, which settles it for them.
func (i *importer) bury(r *kite.Record, row *original.Row) {
	for _, group := range row.Failed {
		letter := kite.DeadLetter{
			Seq: r.Seq, Attempts: uint8(min(max(row.Attempts, 0), kite.MaxDeliverLimit)), Command: r.Command,
			PublishedMs: row.StoredS * 1000, Reason: "given up by the original KiteQ", Payload: r.Body,
		}
		i.tally.Letters++
		i.batch = append(i.batch, &kite.Record{
			Kind: kite.KindDead, ID: r.ID, TimeMs: r.TimeMs, Topic: r.Topic, Type: r.Type, Group: []byte(group),
			Seq: i.place(kite.DeadStream(r.Topic, group)), Body: kite.AppendDeadLetter(nil, &letter),
		})
		i.bytes += len(r.Body)
	}
}

// place returns the next Seq of the stream.
func (i *importer) place(stream string) kite.Seq {
	if i.next[stream] == 0 {
		_, i.next[stream] = i.journal.Bounds(stream)
		i.next[stream] = max(i.next[stream], 1)
	}
	seq := i.next[stream]
	if i.first[stream] == 0 {
		i.first[stream] = seq
	}
	i.next[stream] = seq + 1
	return seq
}

func (i *importer) has(id kite.MessageID) (there bool, err error) {
	for _, r := range i.batch {
		there = there || r.ID == id
	}
	if !there {
		err = i.journal.Find(id, 0, func(*kite.Record) bool { there = true; return false })
	}
	return there, err
}

// count reads back what the journal has of the import: messages and dead letters.
func (i *importer) count(ctx context.Context) (messages, letters int, err error) {
	for stream, first := range i.first {
		n := 0
		err := i.journal.Read(stream, first, func(*kite.Record) bool { n++; return ctx.Err() == nil })
		if err = errors.Join(err, ctx.Err()); err != nil {
			return messages, letters, err
		}
		if _, _, dead := kite.CutDead(stream); dead {
			letters += n
		} else {
			messages += n
		}
	}
	return messages, letters, nil
}

// flush appends the batch, and saves then how far that is.
func (i *importer) flush() error {
	if len(i.batch) > 0 {
		err := i.journal.Append(i.batch)
		if err == nil {
			err = i.journal.Sync(i.journal.Class())
		}
		if err != nil {
			return err
		}
	}
	rows := i.rows
	i.batch, i.bytes, i.rows = i.batch[:0], 0, 0
	if err := i.save(i.done); err != nil {
		return err
	}
	i.moved(rows)
	return nil
}
