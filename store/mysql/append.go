package mysql

import (
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
)

// Append writes the batch in one transaction, mostly one round trip. See store.Journal. It waits for a database
// that is away, until Abandon.
//
// Errors of code Invalid (a kind that is not appended, a Seq out of order, a Ref to nowhere or to a message
// that is decided otherwise) and TooLarge (a record that the server does not take) keep nothing of the batch.
func (j *Journal) Append(batch []*kite.Record) error {
	if err := j.usable(); err != nil || len(batch) == 0 {
		return err
	}
	if err := j.prepare(batch); err != nil {
		return err
	}
	unit, complete := j.measure(batch)
	j.compose(batch, unit, complete)
	if err := j.execute("append", &j.tx); err != nil {
		return err
	}
	j.publish(batch)
	j.open = unit
	if complete {
		j.units = append(j.units, unit)
		j.open = newUnit(j.head)
	}
	return nil
}

// prepare checks the batch before anything of it is written, finds the streams of its records and gives these
// their positions.
func (j *Journal) prepare(batch []*kite.Record) error {
	j.takeOutPassed()
	j.turn++
	j.plan = j.plan[:0]
	serial := serialOf(j.head)
	for _, r := range batch {
		table := home(r, j.db.shards)
		if table < 0 {
			return kite.Errorf(kite.Invalid, "append a record of %s: it does not belong into a journal", r.Kind)
		}
		if size := rowSize(r); size > j.db.packet-packetMargin {
			return kite.Errorf(kite.TooLarge, "append a record of %d bytes, which need %d in a statement: the server's max_allowed_packet is %s", len(r.Body), size, kite.ByteSize(j.db.packet))
		}
		st, err := j.place(r)
		if err != nil {
			return err
		}
		j.plan = append(j.plan, st)
		serial++
		r.Position = at(serial, table)
	}
	return nil
}

// place checks that r is the next of its stream and returns it, nil for a record of none. What lies at a Ref
// is checked by the transaction.
func (j *Journal) place(r *kite.Record) (*stream, error) {
	if table := tableOf(r.Ref); hasBytesElsewhere(r) &&
		(r.Ref > j.head || table != preparedTable && (table != delayedTable || r.Kind == kite.KindDelayed)) {
		return nil, kite.Errorf(kite.Invalid, "%s of topic %s: no message lies at position %d", r.Kind, r.Topic, r.Ref)
	}
	if r.Kind == kite.KindDelayed && r.DueMs <= 0 {
		return nil, kite.Errorf(kite.Invalid, "delayed record due at %d", r.DueMs)
	}
	j.key = streamKey(j.key[:0], r)
	if len(j.key) == 0 || r.Seq == 0 {
		return nil, nil
	}
	st := j.streams[string(j.key)]
	if st == nil {
		st = newStream(j.held.Journal, string(j.key), j.db.shards)
		j.mu.Lock()
		j.streams[st.name] = st
		j.mu.Unlock()
	}
	if st.turn != j.turn {
		st.turn, st.pending = j.turn, st.next
	}
	if st.pending != 0 && r.Seq != st.pending {
		return nil, kite.Errorf(kite.Invalid, "append seq %d to %s: the next one is %d", r.Seq, st.name, st.pending)
	}
	st.pending = r.Seq + 1
	return st, nil
}

// compose writes the transaction of the batch: rows by table, since each table is one INSERT.
func (j *Journal) compose(batch []*kite.Record, unit unit, complete bool) {
	t := &j.tx
	t.begin(j, batch[len(batch)-1].Position, unit.bytes-j.open.bytes, "")
	var moves []move
	for _, table := range tables(j.db.shards) {
		first := true
		for i, r := range batch {
			if tableOf(r.Position) != table {
				continue
			}
			t.row(j.held.Journal, table, first, r, j.topicArg(i, r))
			first = false
			moves = decided(moves, r)
		}
	}
	for i := range moves {
		t.decide(j.held.Journal, &moves[i])
	}
	if complete {
		t.next(128)
		t.write("INSERT INTO kite_unit VALUES(")
		t.number(uint64(j.held.Journal))
		t.write(",")
		t.number(uint64(unit.last))
		t.write(",")
		t.signed(unit.newestMs)
		t.write(",")
		t.signed(unit.bytes)
		t.write(")")
	}
	t.commit()
}

// topicArg is the topic of the i-th record as a parameter.
func (j *Journal) topicArg(i int, r *kite.Record) any {
	if st := j.plan[i]; st != nil && st.arg != nil {
		return st.arg
	}
	return []byte(r.Topic)
}

// decided adds the change of state that the record makes where its message lies.
func decided(moves []move, r *kite.Record) []move {
	switch r.Kind {
	case kite.KindCommit, kite.KindDelayed, kite.KindRollback, kite.KindPark:
	default:
		return moves
	}
	if r.Ref == 0 {
		return moves
	}
	table := tableOf(r.Ref)
	i := slices.IndexFunc(moves, func(m move) bool { return m.table == table && m.kind == r.Kind })
	if i < 0 {
		i = len(moves)
		moves = append(moves, move{table: table, kind: r.Kind})
	}
	moves[i].places = append(moves[i].places, r.Ref)
	return moves
}

// publish lets readers see the batch that was committed.
func (j *Journal) publish(batch []*kite.Record) {
	j.ids.add(batch)
	recent := j.tail.copyBatch(batch, j.plan)
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, r := range batch {
		if st := j.plan[i]; st != nil {
			st.add(r)
		}
	}
	j.tail.push(recent)
	j.head = j.tx.to
	j.bytes.Add(j.tx.bytes)
	j.appended = true
}

// unit is a run of positions: what Trim looks at as a whole. The rows of a unit that is not needed for its time
// go as far as nobody names them.
type unit struct {
	first    uint64        // serial
	last     kite.Position // 0: not complete
	newestMs int64
	bytes    int64
}

func newUnit(head kite.Position) unit { return unit{first: serialOf(head) + 1} }

// measure returns the open unit as it will be behind the batch, and whether that completes it.
func (j *Journal) measure(batch []*kite.Record) (u unit, complete bool) {
	u = j.open
	for _, r := range batch {
		u.newestMs = max(u.newestMs, r.TimeMs)
		u.bytes += cost(r)
	}
	u.last = batch[len(batch)-1].Position
	return u, serialOf(u.last)-u.first+1 >= uint64(j.db.o.unitRows)
}
