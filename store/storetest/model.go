package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// model is what a journal must show: the plainest journal there is.
type model struct {
	batches [][]*kite.Record
	all     []*kite.Record // in the order of Append
	streams map[string][]*kite.Record
	at      map[kite.Position]*kite.Record
	serial  uint64
	floors  map[string]kite.Seq // below it records may be gone
	nextSeq map[string]kite.Seq
}

func newModel() *model {
	return &model{
		streams: map[string][]*kite.Record{}, at: map[kite.Position]*kite.Record{},
		floors: map[string]kite.Seq{}, nextSeq: map[string]kite.Seq{},
	}
}

// startMs is the time of the first record; each one is a millisecond after the one before.
const startMs = 1_700_000_000_000

func (m *model) id() kite.MessageID {
	m.serial++
	return kite.MessageID([]byte(fmt.Sprintf("%016x", m.serial)))
}

func (m *model) seq(stream string) kite.Seq {
	m.nextSeq[stream]++
	return m.nextSeq[stream]
}

func (m *model) message(topic string, body int) *kite.Record {
	r := m.prepared(topic, body)
	r.Kind, r.Seq = kite.KindMessage, m.seq(topic)
	return r
}

func (m *model) prepared(topic string, body int) *kite.Record {
	id := m.id()
	now := startMs + int64(m.serial)
	return &kite.Record{
		Kind: kite.KindPrepared, Command: 0x11, Limit: 5, ID: id, TimeMs: now, ExpiresMs: now + 1000,
		Topic: topic, Type: []byte("type-" + topic), Group: []byte("producers"),
		Body: bytes.Repeat([]byte{byte(m.serial)}, body),
	}
}

func (m *model) commit(p *kite.Record) *kite.Record {
	m.serial++
	return &kite.Record{
		Kind: kite.KindCommit, ID: p.ID, TimeMs: startMs + int64(m.serial), Topic: p.Topic,
		Seq: m.seq(p.Topic), Ref: p.Position,
	}
}

// delayed is a message that waits.
func (m *model) delayed(topic string, body int, dueMs int64) *kite.Record {
	r := m.prepared(topic, body)
	r.Kind, r.DueMs, r.Seq = kite.KindDelayed, dueMs, m.seq(kite.DelayStream(kite.Minute(dueMs)))
	return r
}

// waits is the decision that a prepared message waits for its time. Every other one says who made it.
func (m *model) waits(p *kite.Record, dueMs int64) *kite.Record {
	m.serial++
	r := &kite.Record{
		Kind: kite.KindDelayed, ID: p.ID, TimeMs: startMs + int64(m.serial), DueMs: dueMs, Topic: p.Topic,
		Seq: m.seq(kite.DelayStream(kite.Minute(dueMs))), Ref: p.Position,
	}
	if m.serial%2 == 0 {
		r.Body = kite.AppendNote(nil, "operator ann", "the row is there")
	}
	return r
}

func (m *model) other(kind kite.Kind, topic string) *kite.Record {
	return &kite.Record{
		Kind: kind, ID: m.id(), TimeMs: startMs + int64(m.serial), Topic: topic,
		Group: []byte("consumers"), Body: []byte("body of " + kind.String()),
	}
}

func (m *model) dead(topic, group string) *kite.Record {
	r := m.other(kite.KindDead, topic)
	r.Group, r.Seq = []byte(group), m.seq(kite.DeadStream(topic, group))
	return r
}

func clone(r *kite.Record) *kite.Record {
	c := *r
	c.Topic = strings.Clone(r.Topic)
	c.Type, c.Group, c.Body = bytes.Clone(r.Type), bytes.Clone(r.Group), bytes.Clone(r.Body)
	return &c
}

// keep takes over a batch that the journal has appended.
func (m *model) keep(batch []*kite.Record) {
	var kept []*kite.Record
	for _, r := range batch {
		c := clone(r)
		kept = append(kept, c)
		m.at[c.Position] = c
		if stream := store.Stream(c); stream != "" && c.Seq > 0 {
			m.streams[stream] = append(m.streams[stream], m.shown(c))
		}
	}
	m.all = append(m.all, kept...)
	m.batches = append(m.batches, kept)
}

// shown is what Read visits for the record.
func (m *model) shown(r *kite.Record) *kite.Record {
	if r.Kind != kite.KindCommit {
		return r
	}
	c := clone(m.at[r.Ref])
	c.Kind, c.Seq, c.TimeMs, c.Position, c.Ref = kite.KindMessage, r.Seq, r.TimeMs, r.Position, r.Ref
	return c
}

// mustAppend appends the batch to journal and model.
func (m *model) mustAppend(tb testing.TB, j store.Journal, batch ...*kite.Record) {
	tb.Helper()
	if err := j.Append(batch); err != nil {
		tb.Fatalf("append: %v", err)
	}
	m.keep(batch)
}

// fill appends messages of the topic until a unit is surely complete.
func (m *model) fill(tb testing.TB, j store.Journal, e Env, topic string) {
	tb.Helper()
	for n := 0; n <= e.UnitBytes; n += 512 {
		m.mustAppend(tb, j, m.message(topic, 512))
	}
}

// check compares all that can be read with the model.
func (m *model) check(tb testing.TB, j store.Journal) {
	tb.Helper()
	for _, stream := range slices.Sorted(maps.Keys(m.streams)) {
		want := m.streams[stream]
		floor := max(m.floors[stream], 1)
		for _, from := range []kite.Seq{floor, floor + kite.Seq(len(want))/2, kite.Seq(len(want)), kite.Seq(len(want)) + 1} {
			if from < floor {
				continue
			}
			got := mustRead(tb, j, stream, from)
			if diff := diff(want[min(int(from)-1, len(want)):], got); diff != "" {
				tb.Fatalf("read %s from %d (-want +got):\n%s", stream, from, clip(diff))
			}
		}
		first, next := j.Bounds(stream)
		if next != kite.Seq(len(want))+1 || first > max(floor, next) {
			tb.Fatalf("bounds of %s: %d to %d, want %d or less to %d", stream, first, next, floor, len(want)+1)
		}
	}
	if len(m.floors) > 0 {
		return
	}
	for _, want := range m.all {
		if diff := diff([]*kite.Record{want}, []*kite.Record{mustLoad(tb, j, want.Position)}); diff != "" {
			tb.Fatalf("load %d (-want +got):\n%s", want.Position, clip(diff))
		}
	}
	m.checkIDs(tb, j)
}

// forget takes a stream out of the model: parts of it may be gone.
func (m *model) forget(stream string) { delete(m.streams, stream) }

// diff is cmp.Diff, which is slow, for records that are mostly equal.
func diff(want, got []*kite.Record) string {
	if slices.EqualFunc(want, got, same) {
		return ""
	}
	return cmp.Diff(want, got, cmpopts.EquateEmpty())
}

func same(a, b *kite.Record) bool {
	return a.Kind == b.Kind && a.Command == b.Command && a.Limit == b.Limit && a.ID == b.ID && a.Seq == b.Seq &&
		a.TimeMs == b.TimeMs && a.ExpiresMs == b.ExpiresMs && a.DueMs == b.DueMs && a.Ref == b.Ref && a.Position == b.Position &&
		a.Topic == b.Topic && bytes.Equal(a.Type, b.Type) && bytes.Equal(a.Group, b.Group) && bytes.Equal(a.Body, b.Body)
}

func clip(text string) string { return text[:min(len(text), 3000)] }

// read returns copies of what Read visits from the Seq on.
func read(j store.Journal, stream string, from kite.Seq) (got []*kite.Record, err error) {
	err = j.Read(stream, from, func(r *kite.Record) bool {
		got = append(got, clone(r))
		return true
	})
	return got, err
}

func mustRead(tb testing.TB, j store.Journal, stream string, from kite.Seq) []*kite.Record {
	tb.Helper()
	got, err := read(j, stream, from)
	if err != nil {
		tb.Fatalf("read %s from %d: %v", stream, from, err)
	}
	return got
}

func mustLoad(tb testing.TB, j store.Journal, pos kite.Position) (got *kite.Record) {
	tb.Helper()
	if err := j.Load(pos, func(r *kite.Record) { got = clone(r) }); err != nil {
		tb.Fatalf("load %d: %v", pos, err)
	}
	return got
}

func mustSync(tb testing.TB, j store.Journal) {
	tb.Helper()
	if err := j.Sync(j.Class()); err != nil {
		tb.Fatalf("sync: %v", err)
	}
}

// mustReplay replays into apply, or into nothing.
func mustReplay(tb testing.TB, j store.Journal, apply func(*kite.Record)) {
	tb.Helper()
	err := j.Replay(func(r *kite.Record) error {
		if apply != nil {
			apply(r)
		}
		return nil
	})
	if err != nil {
		tb.Fatalf("replay: %v", err)
	}
}

// mustCheckpoint writes a checkpoint of the records.
func mustCheckpoint(tb testing.TB, j store.Journal, records ...*kite.Record) {
	tb.Helper()
	if err := j.Checkpoint(slices.Values(records)); err != nil {
		tb.Fatalf("checkpoint: %v", err)
	}
}

func mustTrim(tb testing.TB, j store.Journal, needs store.Needs) store.Trimmed {
	tb.Helper()
	trimmed, err := j.Trim(needs)
	if err != nil {
		tb.Fatalf("trim: %v", err)
	}
	return trimmed
}

// late is a BeforeMs that every record precedes.
const late = startMs + 1<<40

// random makes a batch of up to 8 records of any kind on a few topics. It takes decided ones out of open.
func (m *model) random(rng *rand.Rand, open *[]*kite.Record) (batch []*kite.Record) {
	topics := []string{"alpha", "beta", "gamma"}
	decided := 0
	dueMs := startMs + int64(m.serial)/200*60_000 + rng.Int64N(120_000)
	for range 1 + rng.IntN(8) {
		topic := topics[rng.IntN(len(topics))]
		switch n := rng.IntN(13); {
		case n < 5:
			batch = append(batch, m.message(topic, rng.IntN(600)))
		case n < 8:
			batch = append(batch, m.prepared(topic, rng.IntN(600)))
		case n < 10 && decided < len(*open):
			p := (*open)[decided]
			decided++
			if rng.IntN(4) == 0 {
				r := m.other(kite.KindRollback, p.Topic)
				r.ID, r.Ref = p.ID, p.Position
				batch = append(batch, r)
				continue
			}
			if rng.IntN(4) == 0 && p.Kind == kite.KindPrepared {
				batch = append(batch, m.waits(p, dueMs))
				continue
			}
			batch = append(batch, m.commit(p))
		case n == 10:
			batch = append(batch, m.dead(topic, "group-"+topic))
		case n == 11:
			batch = append(batch, m.delayed(topic, rng.IntN(600), dueMs))
		default:
			batch = append(batch, m.other(kite.KindProgress, topic))
		}
	}
	*open = (*open)[decided:]
	return batch
}

// undecided appends to open the batch's records that may be committed later, at the place of their bytes.
func undecided(open, batch []*kite.Record) []*kite.Record {
	for _, r := range batch {
		switch {
		case r.Kind == kite.KindDelayed && r.Ref != 0:
			open = append(open, &kite.Record{Kind: r.Kind, ID: r.ID, Topic: r.Topic, Position: r.Ref})
		case r.Kind == kite.KindPrepared || r.Kind == kite.KindDelayed:
			open = append(open, r)
		}
	}
	return open
}
