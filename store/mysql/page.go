package mysql

import (
	"database/sql"
	"fmt"
	"strconv"

	"github.com/kiteq/kiteq/internal/kite"
)

// num is a number of a row. Scanning into one costs no allocation and no detour through text.
type num uint64

// Scan takes what the driver makes of a number.
func (n *num) Scan(src any) error {
	switch v := src.(type) {
	case int64:
		*n = num(v)
	case uint64:
		*n = num(v)
	case []byte:
		return n.parse(string(v))
	case string:
		return n.parse(v)
	default:
		return fmt.Errorf("a %T where a number belongs", src)
	}
	return nil
}

func (n *num) parse(text string) error {
	if v, err := strconv.ParseInt(text, 10, 64); err == nil {
		*n = num(v)
		return nil
	}
	v, err := strconv.ParseUint(text, 10, 64)
	*n = num(v)
	return err
}

// page is a run of rows, read into memory before anybody visits them: a visitor may take its time, and may
// read itself.
type page struct {
	records []kite.Record
	arena   []byte // what they point to
	bases   []kite.Record
	places  map[kite.Position]int // of bases

	numbers [9]num
	texts   [5]sql.RawBytes
	fields  []any
}

func newPage() *page {
	p := &page{places: map[kite.Position]int{}}
	n, t := &p.numbers, &p.texts
	p.fields = []any{&n[0], &n[1], &n[2], &n[3], &t[0], &n[4], &n[5], &n[6], &n[7], &n[8], &t[1], &t[2], &t[3], &t[4]}
	return p
}

// keepArena is the largest arena that is kept for the next page, bytes.
const keepArena = 2 << 20

func (p *page) reset() {
	clear(p.records)
	clear(p.bases)
	clear(p.places)
	p.records, p.bases, p.arena = p.records[:0], p.bases[:0], p.arena[:0]
	if cap(p.arena) > keepArena {
		p.arena = nil
	}
}

func (j *Journal) page() *page {
	if p, ok := j.pages.Get().(*page); ok {
		return p
	}
	return newPage()
}

func (j *Journal) done(p *page) {
	p.reset()
	j.pages.Put(p)
}

// scan appends the rows of the query to records. It is the one reader of columns.
func (p *page) scan(records []kite.Record, db *sql.DB, intern func([]byte) string, query string, args ...any) (_ []kite.Record, err error) {
	rows, err := db.Query(query, args...)
	if err != nil {
		return records, err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		if err := rows.Scan(p.fields...); err != nil {
			return records, err
		}
		n, t := &p.numbers, &p.texts
		r := kite.Record{
			Position: kite.Position(n[0]), Kind: kite.Kind(n[1]), Command: uint8(n[2]), Limit: uint8(n[3]),
			Seq: kite.Seq(n[4]), TimeMs: int64(n[5]), ExpiresMs: int64(n[6]), DueMs: int64(n[7]), Ref: kite.Position(n[8]),
			Topic: intern(t[1]), Type: p.keep(t[2]), Group: p.keep(t[3]), Body: p.keep(t[4]),
		}
		copy(r.ID[:], t[0])
		records = append(records, r)
	}
	return records, rows.Err()
}

// keep copies the bytes into the arena. What an arena that grew was before lives as long as it is pointed to.
func (p *page) keep(b []byte) []byte {
	n := len(p.arena)
	p.arena = append(p.arena, b...)
	return p.arena[n:len(p.arena):len(p.arena)]
}

// pace is how many rows to read next: few at first, for a visitor may want only one, and never more than
// pageBytes if they are as large as those before.
type pace int

const (
	firstRows = 16
	pageRows  = 256
	pageBytes = 1 << 20
)

func (p pace) rows() int { return max(int(p), firstRows) }

// after returns the pace behind a page of so many rows.
func (p pace) after(rows, bytes int) pace {
	fit := pageRows
	if rows > 0 && bytes > 0 {
		fit = max(1, min(pageRows, pageBytes*rows/bytes))
	}
	return pace(min(max(4*int(p), firstRows), fit))
}
