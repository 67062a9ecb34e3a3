package mysql

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// trimRows bounds the rows of one deletion: longer ones would hold their locks for too long.
const trimRows = 500

// sweep is one Trim under way, with what it needs of the lane's.
type sweep struct {
	j      *Journal
	needs  store.Needs
	open   map[kite.Position]bool // what needs.Open names
	units  []unit                 // that may go, their age aside
	writer writer
	tx     transaction
	stop   <-chan struct{}
	rows   int
	bytes  int64
}

// newSweep copies what the sweep needs: Needs is not kept.
func (j *Journal) newSweep(needs store.Needs) *sweep {
	s := &sweep{j: j, needs: needs, open: map[kite.Position]bool{}}
	s.needs.Floors, s.needs.Open = maps.Clone(needs.Floors), nil
	for _, pos := range needs.Open {
		s.open[pos] = true
	}
	n := 0
	for n < len(j.units) && j.units[n].last <= j.covered && (needs.SeenMs <= 0 || j.units[n].newestMs < needs.SeenMs) {
		n++
	}
	s.units = slices.Clone(j.units[:n])
	s.writer = writer{connector: j.db.writers, life: j.life, journal: j.held.Journal}
	return s
}

// run sweeps until stop is closed.
func (s *sweep) run(stop <-chan struct{}) error {
	s.stop = stop
	defer s.writer.drop()
	n := 0
	for n < len(s.units) && s.units[n].newestMs < s.needs.BeforeMs {
		n++
	}
	err := s.below(s.lastOf(n))
	// Over the limit of bytes units go before their time, the oldest first. What is needed of them stays, so it
	// takes a look at how far that went.
	for err == nil && s.over() > 0 && n < len(s.units) && !s.stopped() {
		n = s.excess(n)
		err = s.below(s.lastOf(n))
	}
	if err == nil && s.rows > 0 {
		err = s.forgetUnits()
	}
	if s.rows > 0 {
		s.j.log.Info("journal trimmed", "rows", s.rows, "bytes", s.bytes)
	}
	return err
}

// over is how many bytes the journal has too many.
func (s *sweep) over() int64 {
	if s.needs.MaxBytes <= 0 {
		return 0
	}
	return s.j.bytes.Load() - s.needs.MaxBytes
}

// excess returns how many units must go for the limit of bytes, beside the first n, if none of them is needed.
func (s *sweep) excess(n int) int {
	for over := s.over(); n < len(s.units) && over > 0; n++ {
		over -= s.units[n].bytes
	}
	return n
}

// lastOf returns the last position of the first n units.
func (s *sweep) lastOf(n int) kite.Position {
	if n == 0 {
		return 0
	}
	return s.units[n-1].last
}

// forgetUnits finds the units of which there is nothing left.
func (s *sweep) forgetUnits() error {
	j := s.j
	lowest := s.lastOf(len(s.units)) + 1
	for _, table := range tables(j.db.shards) {
		var first uint64
		query := fmt.Sprintf("SELECT COALESCE((SELECT MIN(position) FROM %s WHERE journal=%d),0)", tableNames[table], j.held.Journal)
		if err := j.db.readers.QueryRow(query).Scan(&first); err != nil {
			return j.broken("trim", err)
		}
		if first > 0 {
			lowest = min(lowest, kite.Position(first))
		}
	}
	s.tx.start(j.db)
	s.statement("DELETE FROM kite_unit WHERE journal=%d AND position<%d", j.held.Journal, lowest)
	s.tx.fence(j.held, 0)
	if err := s.execute(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lowest = lowest
	return nil
}

// statement adds one to the transaction.
func (s *sweep) statement(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.tx.next(len(text))
	s.tx.write(text)
}

// execute does the transaction, and tries once more when that fails: it may be done twice.
func (s *sweep) execute() error {
	for tries := 1; ; tries++ {
		_, err := s.writer.ready()
		if err == nil {
			err = s.writer.send(&s.tx)
		}
		switch {
		case err == nil:
			return nil
		case isServer(err, errNull):
			return s.j.fail("trim", store.ErrFenced)
		case isServer(err, hopeless...):
			return s.j.fail("trim", err)
		case tries > 1:
			return s.j.broken("trim", err)
		}
	}
}

// stopped tells whether the rest is for another time.
func (s *sweep) stopped() bool {
	select {
	case <-s.stop:
		return true
	case <-s.j.life.Done():
		return true
	default:
		return false
	}
}

// below deletes what lies up to last and is not needed.
func (s *sweep) below(last kite.Position) error {
	if last == 0 {
		return nil
	}
	for _, table := range []int{decisionTable, progressTable, orderTable} {
		if err := s.history(table, last); err != nil {
			return err
		}
	}
	for _, st := range s.streams() {
		if err := s.stream(st, last); err != nil || s.stopped() {
			return err
		}
	}
	return nil
}

// streams are those of which something may go.
func (s *sweep) streams() (all []*stream) {
	s.j.mu.RLock()
	defer s.j.mu.RUnlock()
	for _, st := range s.j.streams {
		if st.first < st.next && st.first < s.floor(st) {
			all = append(all, st)
		}
	}
	return all
}

func (s *sweep) floor(st *stream) kite.Seq {
	if floor, ok := s.needs.Floors[st.name]; ok {
		return floor
	}
	return math.MaxUint64
}

// history deletes the rows of a table without streams. The message that was rolled back goes with its decision.
func (s *sweep) history(table int, last kite.Position) error {
	for !s.stopped() {
		rows, err := s.look(fmt.Sprintf("SELECT position,base,kind,%s,0 FROM %s WHERE journal=%d AND position<=%d ORDER BY position LIMIT %d",
			costColumns, tableNames[table], s.j.held.Journal, last, trimRows))
		if err != nil || len(rows) == 0 {
			return err
		}
		var gone cut
		for _, r := range rows {
			gone.add(r)
			if r.kind == kite.KindRollback {
				gone.bases = append(gone.bases, r.base)
			}
		}
		gone.where = fmt.Sprintf("%s WHERE journal=%d AND position<=%d", tableNames[table], s.j.held.Journal, rows[len(rows)-1].position)
		if err := s.delete(&gone, fmt.Sprintf(" AND state=%d", stateRolledBack)); err != nil {
			return err
		}
		if len(rows) < trimRows {
			return nil
		}
	}
	return nil
}

// stream deletes the stream's rows before its floor that lie up to last.
func (s *sweep) stream(st *stream, last kite.Position) error {
	state := "0"
	if st.table == delayedTable {
		state = "state"
	}
	for !s.stopped() {
		s.j.mu.RLock()
		first, firstAt, floor := st.first, st.firstAt, min(s.floor(st), st.next)
		s.j.mu.RUnlock()
		if first >= floor || firstAt > last {
			return nil
		}
		rows, err := s.look(fmt.Sprintf("SELECT position,base,kind,%s,%s FROM %s WHERE %s AND seq>=%d AND seq<%d ORDER BY seq LIMIT %d",
			costColumns, state, tableNames[st.table], st.where, first, floor, trimRows), st.keys...)
		if err != nil {
			return err
		}
		n := len(rows)
		firstAt = 0
		if stay := slices.IndexFunc(rows, func(r trimRow) bool { return r.position > last }); stay >= 0 {
			n, firstAt = stay, rows[stay].position
		}
		if n > 0 {
			err = s.deleteOf(st, rows[:n], first+kite.Seq(n))
		}
		if err != nil {
			return err
		}
		s.shorten(st, first+kite.Seq(n), firstAt)
		if n == 0 {
			return nil
		}
	}
	return nil
}

// shorten makes the stream begin at first, which lies at firstAt if that is known.
func (s *sweep) shorten(st *stream, first kite.Seq, firstAt kite.Position) {
	j := s.j
	j.mu.Lock()
	defer j.mu.Unlock()
	st.first, st.firstAt = first, firstAt
	if _, minute := kite.DelayMinute(st.name); minute && st.first >= st.next {
		j.passed = append(j.passed, st)
	}
}

// deleteOf deletes rows of the stream: all before first.
func (s *sweep) deleteOf(st *stream, rows []trimRow, first kite.Seq) error {
	gone := cut{keys: st.keys}
	from := ""
	for _, r := range rows {
		switch {
		case r.kind == kite.KindCommit:
			gone.bases = append(gone.bases, r.base)
		case r.kind == kite.KindDelayed && r.base != 0:
			if from = fmt.Sprintf(" AND state=%d", stateWaits); !s.open[r.base] {
				gone.bases = append(gone.bases, r.base)
			}
		case r.kind == kite.KindDelayed && (r.state == stateCommitted || s.open[r.position]):
			gone.detached = append(gone.detached, r.position) // its commit needs the bytes
			continue
		}
		gone.add(r)
	}
	gone.where = fmt.Sprintf("%s WHERE %s AND seq<%d", tableNames[st.table], st.where, first)
	return s.delete(&gone, from)
}

// trimRow is what Trim reads of a row.
type trimRow struct {
	position, base kite.Position
	kind           kite.Kind
	bytes          int64
	state          uint8
}

func (s *sweep) look(query string, args ...any) (all []trimRow, err error) {
	rows, err := s.j.db.readers.Query(query, args...)
	if err != nil {
		return nil, s.j.broken("trim", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var n [5]num
		if err := rows.Scan(&n[0], &n[1], &n[2], &n[3], &n[4]); err != nil {
			return nil, s.j.broken("trim", err)
		}
		all = append(all, trimRow{kite.Position(n[0]), kite.Position(n[1]), kite.Kind(n[2]), int64(n[3]), uint8(n[4])})
	}
	return all, s.j.broken("trim", rows.Err())
}

// cut is one deletion: rows, and the messages that they lead to.
type cut struct {
	where    string
	keys     []any
	n        int
	bytes    int64
	bases    []kite.Position
	detached []kite.Position // delayed ones that stay for their commit, outside of their minute
}

func (c *cut) add(r trimRow) {
	c.n++
	c.bytes += r.bytes
}

// delete deletes in one transaction. and says in which state bases must be to go.
func (s *sweep) delete(c *cut, and string) error {
	j := s.j
	prepared, delayed := among(c.bases, preparedTable), among(c.bases, delayedTable)
	if err := s.count(c, "kite_prepared", prepared, and); err != nil {
		return err
	}
	if err := s.count(c, "kite_delayed", delayed, " AND minute<0"); err != nil {
		return err
	}
	s.tx.start(j.db)
	if detached := among(c.detached, delayedTable); detached != "" {
		s.statement("UPDATE kite_delayed SET minute=-1 WHERE journal=%d AND position%s", j.held.Journal, detached)
	}
	if prepared != "" {
		s.statement("DELETE FROM kite_prepared WHERE journal=%d AND position%s%s", j.held.Journal, prepared, and)
	}
	if delayed != "" {
		s.statement("DELETE FROM kite_delayed WHERE journal=%d AND position%s AND minute<0", j.held.Journal, delayed)
		s.statement("UPDATE kite_delayed SET state=%d WHERE journal=%d AND position%s", stateSpent, j.held.Journal, delayed)
	}
	s.statement("DELETE FROM %s", c.where)
	for _, key := range c.keys {
		s.tx.arg(key)
	}
	s.tx.fence(j.held, -c.bytes)
	if err := s.execute(); err != nil {
		return err
	}
	j.bytes.Add(-c.bytes)
	s.rows += c.n
	s.bytes += c.bytes
	j.mu.Lock()
	defer j.mu.Unlock()
	j.swept.Units++
	j.swept.Bytes += c.bytes
	return nil
}

// count adds the rows of bases that go.
func (s *sweep) count(c *cut, table, in, and string) error {
	if in == "" {
		return nil
	}
	rows, err := s.look(fmt.Sprintf("SELECT position,base,kind,%s,state FROM %s WHERE journal=%d AND position%s%s", costColumns, table, s.j.held.Journal, in, and))
	for _, r := range rows {
		c.add(r)
	}
	return err
}
