package mysql

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store"
)

// load reads what the journal keeps in memory. The writer's look at the journal's row comes first: it waits
// for what the former owner still has under way.
func (j *Journal) load() error {
	if _, err := j.writer.ready(); err != nil {
		return err
	}
	s, err := j.writer.standing()
	switch {
	case err != nil:
		return err
	case s.epoch != j.held.Epoch:
		return fmt.Errorf("journal %d has epoch %d: %w", j.held.Journal, s.epoch, store.ErrFenced)
	}
	j.held.SinceMs = s.sinceMs
	j.head, j.covered, j.generation = s.head, s.covered, s.generation
	j.bytes.Store(s.bytes)
	if err := j.loadStreams(); err != nil {
		return err
	}
	if err := j.chunks(func(kind chunkKind, body []byte) error { return j.restore(kind, body) }); err != nil {
		return err
	}
	return j.loadUnits()
}

// loadStreams reads the bounds of the streams that have records. To group by all of an index's beginning, the
// journal too, lets the server jump from the end of one stream to the next instead of reading all between.
func (j *Journal) loadStreams() error {
	for _, table := range tables(j.db.shards) {
		query := ""
		switch {
		case table < maxShards:
			query = "SELECT topic,'',MIN(seq),MAX(seq) FROM %s WHERE journal=%d GROUP BY journal,topic"
		case table == deadTable:
			query = "SELECT topic,grp,MIN(seq),MAX(seq) FROM %s WHERE journal=%d GROUP BY journal,topic,grp"
		case table == delayedTable:
			query = "SELECT minute,'',MIN(seq),MAX(seq) FROM %s WHERE journal=%d AND minute>=0 GROUP BY journal,minute"
		default:
			continue
		}
		if err := j.loadBounds(table, fmt.Sprintf(query, tableNames[table], j.held.Journal)); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) loadBounds(table int, query string) error {
	rows, err := j.db.readers.Query(query)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var name, group string
		var first, last num
		if err := rows.Scan(&name, &group, &first, &last); err != nil {
			return err
		}
		switch table {
		case delayedTable:
			name = "@" + name
		case deadTable:
			name = kite.DeadStream(name, group)
		}
		if last == 0 {
			continue
		}
		st := newStream(j.held.Journal, name, j.db.shards)
		st.first, st.next = kite.Seq(first), kite.Seq(last)+1
		j.streams[name] = st
	}
	return rows.Err()
}

// loadUnits reads the units. Of the open one it knows only that it is as new as the newest record.
func (j *Journal) loadUnits() error {
	rows, err := j.db.readers.Query("SELECT position,newest_ms,bytes FROM kite_unit WHERE journal=? ORDER BY position", j.held.Journal)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	j.open = newUnit(0)
	for rows.Next() {
		var last, newest, bytes num
		if err := rows.Scan(&last, &newest, &bytes); err != nil {
			return err
		}
		u := j.open
		u.last, u.newestMs, u.bytes = kite.Position(last), int64(newest), int64(bytes)
		j.units, j.open = append(j.units, u), newUnit(u.last)
	}
	if err := rows.Err(); err != nil || j.head == 0 {
		return err
	}
	err = j.Load(j.head, func(r *kite.Record) { j.open.newestMs = r.TimeMs })
	if errors.Is(err, kite.Invalid) {
		return nil // it was trimmed
	}
	return err
}

// Replay hands out the checkpoint's records and then all that follow it. See store.Journal. A second
// Replay, or one after Append, is an error of code Invalid.
func (j *Journal) Replay(apply func(*kite.Record) error) error {
	if err := j.usable(); err != nil {
		return err
	}
	if j.replayed || j.appended {
		return kite.Errorf(kite.Invalid, "replay the journal: it is done once, before the first append")
	}
	j.replayed = true
	var applied error
	err := j.chunks(func(kind chunkKind, body []byte) error {
		if kind != recordChunk {
			return nil
		}
		var r kite.Record
		for len(body) > 0 {
			var err error
			if body, err = decodeRecord(body, &r); err != nil {
				return err
			}
			if applied = apply(&r); applied != nil {
				return applied
			}
		}
		return nil
	})
	if applied != nil {
		return applied
	}
	if err != nil {
		return j.broken("replay the checkpoint", err)
	}
	return j.replayTail(apply)
}

// cursor reads one table in the order of positions, a page at a time.
type cursor struct {
	table int
	page  *page
	n     int // records of the page that were taken
	from  kite.Position
	pace  pace
	end   bool
}

// peek returns the next record, nil at the end.
func (c *cursor) peek(j *Journal, db *sql.DB) (*kite.Record, error) {
	if c.n < len(c.page.records) {
		return &c.page.records[c.n], nil
	}
	if c.end {
		return nil, nil
	}
	limit := c.pace.rows()
	c.page.reset()
	c.n = 0
	query := fmt.Sprintf("SELECT %s FROM %s WHERE journal=%d AND position>%d ORDER BY position LIMIT %d",
		columns, tableNames[c.table], j.held.Journal, c.from, limit)
	var err error
	if c.page.records, err = c.page.scan(c.page.records, db, j.topic, query); err != nil {
		return nil, err
	}
	rows := len(c.page.records)
	c.end, c.pace = rows < limit, c.pace.after(rows, len(c.page.arena))
	if rows == 0 {
		return nil, nil
	}
	c.from = c.page.records[rows-1].Position
	return &c.page.records[0], nil
}

// replayTail merges the tables' records behind the checkpoint by their positions.
func (j *Journal) replayTail(apply func(*kite.Record) error) error {
	var cursors []*cursor
	for _, table := range tables(j.db.shards) {
		c := &cursor{table: table, page: j.page(), from: j.covered}
		defer j.done(c.page)
		cursors = append(cursors, c)
	}
	one := make([]*kite.Record, 1)
	for len(cursors) > 0 {
		var lowest *cursor
		for _, c := range cursors {
			r, err := c.peek(j, j.db.readers)
			if err != nil {
				return j.broken("replay the journal", err)
			}
			if r != nil && (lowest == nil || cmp.Less(r.Position, one[0].Position)) {
				lowest, one[0] = c, r
			}
		}
		if lowest == nil {
			return nil
		}
		j.ids.add(one)
		if err := apply(one[0]); err != nil {
			return err
		}
		lowest.n++
		cursors = slices.DeleteFunc(cursors, func(c *cursor) bool { return c.end && c.n == len(c.page.records) })
	}
	return nil
}
