package mysql

import (
	"fmt"
	"math"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// trimRows bounds the rows of one deletion: longer ones would hold their locks, and the lane, for too long.
const trimRows = 1000

// Trim deletes rows that nobody needs, of complete units that are old enough: of each stream those before its
// floor, and of what has no stream, all. See store.Journal. What it reports as units are deletions of up to
// trimRows rows. One transaction each; an error of code Unavailable says that the database does not answer, and
// the rest goes another time.
func (j *Journal) Trim(needs store.Needs) (store.Trimmed, error) {
	if err := j.usable(); err != nil {
		return store.Trimmed{}, err
	}
	s := sweep{j: j, needs: needs, open: map[kite.Position]bool{}}
	for _, pos := range needs.Open {
		s.open[pos] = true
	}
	n := j.aged(needs)
	err := s.below(j.lastOf(n))
	// Over the limit of bytes units go before their time, the oldest first. What is needed of them stays, so it
	// takes a look at how far that went, and more of them each time.
	for step := 1; err == nil && needs.MaxBytes > 0 && j.bytes > needs.MaxBytes; step *= 2 {
		more := j.excess(needs, n, step)
		if more == n {
			break
		}
		n = more
		err = s.below(j.lastOf(n))
	}
	if needs.SeenMs > 0 {
		j.ids.forget(needs.SeenMs)
	}
	if err == nil && s.trimmed.Units > 0 {
		err = j.forgetUnits()
	}
	if s.trimmed.Units > 0 {
		j.log.Info("journal trimmed", "rows", s.rows, "bytes", s.trimmed.Bytes)
	}
	return s.trimmed, err
}

// may tells whether the unit may go, its age aside.
func (j *Journal) may(u *unit, needs store.Needs) bool {
	return u.last <= j.covered && (needs.SeenMs <= 0 || u.newestMs < needs.SeenMs)
}

// aged returns how many of the oldest units may go for their age.
func (j *Journal) aged(needs store.Needs) int {
	n := 0
	for n < len(j.units) && j.may(&j.units[n], needs) && j.units[n].newestMs < needs.BeforeMs {
		n++
	}
	return n
}

// excess returns how many units must go for the limit of bytes, if none of them is needed: at least step more
// than n, as far as they may.
func (j *Journal) excess(needs store.Needs, n, step int) int {
	over := j.bytes - needs.MaxBytes
	for i := 0; n < len(j.units) && j.may(&j.units[n], needs) && (over > 0 || i < step-1); i++ {
		over -= j.units[n].bytes
		n++
	}
	return n
}

// lastOf returns the last position of the first n units.
func (j *Journal) lastOf(n int) kite.Position {
	if n == 0 {
		return 0
	}
	return j.units[n-1].last
}

// forgetUnits forgets the units of which there is nothing left.
func (j *Journal) forgetUnits() error {
	lowest := j.head + 1
	for _, table := range tables(j.db.shards) {
		query := fmt.Sprintf("SELECT MIN(position) FROM %s WHERE journal=%d", tableNames[table], j.held.Journal)
		var n uint64
		if err := j.db.readers.QueryRow("SELECT COALESCE((" + query + "),0)").Scan(&n); err != nil {
			return j.broken("trim", err)
		}
		if n > 0 {
			lowest = min(lowest, kite.Position(n))
		}
	}
	gone := 0
	for gone < len(j.units) && j.units[gone].last < lowest {
		gone++
	}
	if gone == 0 {
		return nil
	}
	t := &j.tx
	t.begin(j, j.head, 0, "")
	t.next(128)
	t.write(fmt.Sprintf("DELETE FROM kite_unit WHERE journal=%d AND position<=%d", j.held.Journal, j.units[gone-1].last))
	t.commit()
	if err := j.once("trim", t); err != nil {
		return err
	}
	j.units = slices.Clone(j.units[gone:]) // the old array would keep its size
	return nil
}

// sweep is one Trim under way.
type sweep struct {
	j       *Journal
	needs   store.Needs
	open    map[kite.Position]bool // what needs.Open names
	trimmed store.Trimmed
	rows    int
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
		if err := s.stream(st, last); err != nil {
			return err
		}
	}
	return nil
}

// streams are those of which something may go.
func (s *sweep) streams() (all []*stream) {
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
	for {
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
}

// stream deletes the stream's rows before its floor that lie up to last.
func (s *sweep) stream(st *stream, last kite.Position) error {
	state := "0"
	if st.table == delayedTable {
		state = "state"
	}
	for floor := min(s.floor(st), st.next); st.first < floor && st.firstAt <= last; {
		rows, err := s.look(fmt.Sprintf("SELECT position,base,kind,%s,%s FROM %s WHERE %s AND seq>=%d AND seq<%d ORDER BY seq LIMIT %d",
			costColumns, state, tableNames[st.table], st.where, st.first, floor, trimRows), st.keys...)
		if err != nil {
			return err
		}
		n := len(rows)
		if stay := slices.IndexFunc(rows, func(r trimRow) bool { return r.position > last }); stay >= 0 {
			n = stay
			st.firstAt = rows[stay].position
		} else {
			st.firstAt = 0
		}
		if n == 0 {
			return nil
		}
		if err := s.deleteOf(st, rows[:n], st.first+kite.Seq(n)); err != nil {
			return err
		}
	}
	return nil
}

// deleteOf deletes rows of the stream, which begins at first then.
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
	if err := s.delete(&gone, from); err != nil {
		return err
	}
	j := s.j
	j.mu.Lock()
	defer j.mu.Unlock()
	st.first = first
	if _, minute := kite.DelayMinute(st.name); minute && st.first >= st.next {
		delete(j.streams, st.name) // nobody needs to know where it ended
	}
	return nil
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
	t := &j.tx
	t.begin(j, j.head, -c.bytes, "")
	statement := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		t.next(len(text))
		t.write(text)
	}
	if detached := among(c.detached, delayedTable); detached != "" {
		statement("UPDATE kite_delayed SET minute=-1 WHERE journal=%d AND position%s", j.held.Journal, detached)
	}
	if prepared != "" {
		statement("DELETE FROM kite_prepared WHERE journal=%d AND position%s%s", j.held.Journal, prepared, and)
	}
	if delayed != "" {
		statement("DELETE FROM kite_delayed WHERE journal=%d AND position%s AND minute<0", j.held.Journal, delayed)
		statement("UPDATE kite_delayed SET state=%d WHERE journal=%d AND position%s", stateSpent, j.held.Journal, delayed)
	}
	statement("DELETE FROM %s", c.where)
	for _, key := range c.keys {
		t.arg(key)
	}
	t.commit()
	if err := j.once("trim", t); err != nil {
		return err
	}
	j.bytes -= c.bytes
	s.trimmed.Units++
	s.trimmed.Bytes += c.bytes
	s.rows += c.n
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
