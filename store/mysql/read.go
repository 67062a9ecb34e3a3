package mysql

import (
	"cmp"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
)

// Read visits the stream's records from a Seq on. See store.Journal. Memory is bounded by one page, 256 rows or
// about 1 MiB. An error of code Unavailable says that the database did not answer.
//
// The Position of a committed transaction is that of its commit, its Ref that of its bytes.
func (j *Journal) Read(name string, from kite.Seq, visit func(*kite.Record) bool) error {
	p := j.page()
	defer j.done(p)
	var pace pace
	for {
		p.reset()
		st, first, next, err := j.run(p, name, from, pace.rows())
		if err != nil || first >= next {
			return err
		}
		if len(p.records) == 0 {
			next = min(next, first+kite.Seq(pace.rows()))
			if err := j.fetch(p, st, first, next); err != nil {
				return j.broken("read "+name, err)
			}
		}
		for i := range p.records {
			if !visit(&p.records[i]) {
				return nil
			}
		}
		from, pace = next, pace.after(int(next-first), len(p.arena))
	}
}

// run returns the stream and what there is to read next from a Seq on. When that is in memory it is in the page.
func (j *Journal) run(p *page, name string, from kite.Seq, most int) (st *stream, first, next kite.Seq, err error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.closed {
		return nil, 0, 0, &kite.Error{Code: kite.Unavailable, Op: "read " + name, Err: errClosed}
	}
	st = j.streams[name]
	first, next = st.bounds()
	if first = max(first, from); first >= next {
		return st, first, next, nil
	}
	if p.records, next = st.recall(p.records, first, next, most); len(p.records) > 0 {
		return st, first, first + kite.Seq(len(p.records)), nil
	}
	return st, first, next, nil
}

// fetch reads the records from first to below next. Seqs are dense, so the replica has them all or lags
// behind: then the master is asked.
func (j *Journal) fetch(p *page, st *stream, first, next kite.Seq) error {
	if err := j.reachable(); err != nil {
		return err
	}
	if replica := j.db.replica; replica != nil && !replica.rests() {
		err := j.fetchFrom(p, replica.db, st, first, next)
		if err == nil && len(p.records) == int(next-first) {
			return nil
		}
		if err != nil {
			replica.failed()
			j.log.Warn("replica not read, the master is asked", "server", j.db.o.Replica, "err", err)
		}
		p.reset()
	}
	return j.fetchFrom(p, j.db.readers, st, first, next)
}

func (j *Journal) fetchFrom(p *page, db *sql.DB, st *stream, first, next kite.Seq) (err error) {
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s AND seq>=%d AND seq<%d ORDER BY seq", columns, tableNames[st.table], st.where, first, next)
	if p.records, err = p.scan(p.records, db, j.topic, query, st.keys...); err != nil {
		return err
	}
	if st.table >= maxShards {
		return nil
	}
	var places []kite.Position
	for i := range p.records {
		if p.records[i].Kind == kite.KindCommit {
			places = append(places, p.records[i].Ref)
		}
	}
	if len(places) == 0 {
		return nil
	}
	if err := j.fetchBases(p, db, places); err != nil {
		return err
	}
	p.records = slices.DeleteFunc(p.records, func(r kite.Record) bool {
		_, there := p.places[r.Ref]
		return r.Kind == kite.KindCommit && !there
	})
	for i := range p.records {
		if r := &p.records[i]; r.Kind == kite.KindCommit {
			*r = shown(*r, &p.bases[p.places[r.Ref]])
		}
	}
	return nil
}

// fetchBases reads the rows that have the bytes of commits.
func (j *Journal) fetchBases(p *page, db *sql.DB, places []kite.Position) (err error) {
	for _, table := range []int{preparedTable, delayedTable} {
		query := "SELECT " + columns + " FROM " + tableNames[table] + fmt.Sprintf(" WHERE journal=%d AND position", j.held.Journal)
		in := among(places, table)
		if in == "" {
			continue
		}
		if p.bases, err = p.scan(p.bases, db, j.topic, query+in); err != nil {
			return err
		}
	}
	for i := range p.bases {
		p.places[p.bases[i].Position] = i
	}
	return nil
}

// among writes " IN(…)" of the positions that lie in the table, "" for none.
func among(places []kite.Position, table int) string {
	var b strings.Builder
	for _, pos := range places {
		if tableOf(pos) != table {
			continue
		}
		if b.Len() == 0 {
			b.WriteString(" IN(")
		} else {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, uint64(pos))
	}
	if b.Len() == 0 {
		return ""
	}
	return b.String() + ")"
}

// shown is what Read visits for a commit: the message, with the Seq and time of its commit.
func shown(c kite.Record, base *kite.Record) kite.Record {
	r := *base
	r.Kind, r.Topic, r.Seq, r.TimeMs, r.Position, r.Ref = kite.KindMessage, c.Topic, c.Seq, c.TimeMs, c.Position, c.Ref
	return r
}

// Load visits the record at pos as it was appended. A position where no record lies, or one that was
// trimmed, is an error of code Invalid.
func (j *Journal) Load(pos kite.Position, visit func(*kite.Record)) error {
	p := j.page()
	defer j.done(p)
	j.mu.RLock()
	closed, head := j.closed, j.head
	if recent := j.tail.bases[pos]; recent != nil {
		p.records = append(p.records, *recent)
	}
	j.mu.RUnlock()
	if closed {
		return &kite.Error{Code: kite.Unavailable, Op: "load", Err: errClosed}
	}
	table := tableOf(pos)
	if len(p.records) == 0 && pos <= head && slices.Contains(tables(j.db.shards), table) {
		query := fmt.Sprintf("SELECT %s FROM %s WHERE journal=%d AND position=%d", columns, tableNames[table], j.held.Journal, pos)
		err := j.reachable()
		if err == nil {
			p.records, err = p.scan(p.records, j.db.readers, j.topic, query)
		}
		if err != nil {
			return j.broken("load", err)
		}
	}
	if len(p.records) == 0 {
		return kite.Errorf(kite.Invalid, "load position %d: no record lies there", pos)
	}
	visit(&p.records[0])
	return nil
}

// Find visits the records that carry the id, newest first. See store.Journal. An id that surely has none is
// not asked for in the database.
func (j *Journal) Find(id kite.MessageID, sinceMs int64, visit func(*kite.Record) bool) error {
	j.mu.RLock()
	closed := j.closed
	j.mu.RUnlock()
	if closed {
		return &kite.Error{Code: kite.Unavailable, Op: "find message " + id.String(), Err: errClosed}
	}
	if j.ids.unknown(id, sinceMs) {
		return nil
	}
	p := j.page()
	defer j.done(p)
	query, args := j.findQuery(id)
	err := j.reachable()
	if err != nil {
		return j.broken("find message "+id.String(), err)
	}
	if p.records, err = p.scan(p.records, j.db.readers, j.topic, query, args...); err != nil {
		return j.broken("find message "+id.String(), err)
	}
	slices.SortFunc(p.records, func(a, b kite.Record) int { return cmp.Compare(b.Position, a.Position) })
	for i := range p.records {
		if !visit(&p.records[i]) {
			return nil
		}
	}
	return nil
}

// findQuery asks every table for the id, in one statement.
func (j *Journal) findQuery(id kite.MessageID) (query string, args []any) {
	var parts []string
	for _, table := range tables(j.db.shards) {
		parts = append(parts, fmt.Sprintf("SELECT %s FROM %s WHERE journal=%d AND id=?", columns, tableNames[table], j.held.Journal))
		args = append(args, id[:])
	}
	return strings.Join(parts, " UNION ALL "), args
}

// topic returns the text as a string, the stream's own when there is one.
func (j *Journal) topic(text []byte) string {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if st := j.streams[string(text)]; st != nil {
		return st.name
	}
	return string(text)
}

// Bounds returns the first Seq that Read can find and the one after the newest; both are 1 for a
// stream that never had a record.
func (j *Journal) Bounds(name string) (first, next kite.Seq) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.streams[name].bounds()
}
