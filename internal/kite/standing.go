package kite

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
)

// Range is the Seqs from From up to and not including To.
type Range struct{ From, To Seq }

// Settled is the set of a group's settled Seqs on a topic: everything below a floor and some ranges
// above it. The zero value has floor 1: nothing is settled. Its memory grows with the holes, which
// a flow's window bounds, never with the messages.
type Settled struct {
	floor  Seq
	ranges []Range // ascending, apart by at least one Seq from each other and from floor
}

// Floor returns the lowest Seq that is not settled.
func (s *Settled) Floor() Seq { return max(s.floor, 1) }

// Ranges returns the settled ranges above the floor, ascending. The caller must not change them.
func (s *Settled) Ranges() []Range { return s.ranges }

// Clone returns a copy that shares nothing.
func (s *Settled) Clone() Settled { return Settled{s.floor, slices.Clone(s.ranges)} }

// Contains tells whether seq is settled.
func (s *Settled) Contains(seq Seq) bool {
	if seq < s.Floor() {
		return true
	}
	i := s.search(seq)
	return i < len(s.ranges) && s.ranges[i].From <= seq
}

// Raise settles everything below floor.
func (s *Settled) Raise(floor Seq) { s.Settle(Range{s.Floor(), floor}) }

// Settle adds the range.
func (s *Settled) Settle(r Range) {
	floor := s.Floor()
	r.From = max(r.From, floor)
	if r.From >= r.To {
		return
	}
	if r.From == floor && (len(s.ranges) == 0 || r.To < s.ranges[0].From) { // in order: the usual case
		s.floor = r.To
		return
	}
	// first is the first range that touches r, last the one after the last that does.
	first, _ := slices.BinarySearchFunc(s.ranges, r.From, func(e Range, from Seq) int { return cmpSeq(e.To, from) })
	last := first
	for last < len(s.ranges) && s.ranges[last].From <= r.To {
		r.From, r.To = min(r.From, s.ranges[last].From), max(r.To, s.ranges[last].To)
		last++
	}
	if r.From <= floor {
		s.floor = r.To
		s.ranges = slices.Delete(s.ranges, first, last)
		return
	}
	s.ranges = slices.Replace(s.ranges, first, last, r)
}

// search returns the first range that ends after seq.
func (s *Settled) search(seq Seq) int {
	i, _ := slices.BinarySearchFunc(s.ranges, seq+1, func(e Range, to Seq) int { return cmpSeq(e.To, to) })
	return i
}

func cmpSeq(a, b Seq) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Retry is a message that a group must be sent again.
type Retry struct {
	Seq      Seq
	Attempts uint8 // made so far
	DueMs    int64 // not before, Unix ms
}

// Progress is what changed for a group on a topic since its last progress record. Applying it twice
// changes nothing.
type Progress struct {
	Floor   Seq // everything below is settled
	Settled []Range
	Retries []Retry
}

// ErrProgress says that the body of a progress record is not one.
var ErrProgress = errors.New("malformed progress")

// AppendProgress appends the encoded progress: uvarints floor, n, n x (from, length), m, m x (seq, attempts, due).
func AppendProgress(dst []byte, p *Progress) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.Floor))
	dst = appendRanges(dst, p.Settled)
	dst = binary.AppendUvarint(dst, uint64(len(p.Retries)))
	for _, r := range p.Retries {
		dst = binary.AppendUvarint(dst, uint64(r.Seq))
		dst = append(dst, r.Attempts)
		dst = binary.AppendUvarint(dst, uint64(r.DueMs))
	}
	return dst
}

func appendRanges(dst []byte, ranges []Range) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ranges)))
	for _, r := range ranges {
		dst = binary.AppendUvarint(dst, uint64(r.From))
		dst = binary.AppendUvarint(dst, uint64(r.To-r.From))
	}
	return dst
}

// Standing is where a group stands on a topic: what it has settled, what of the rest was tried, and what
// operators ordered.
type Standing struct {
	Settled
	Retries map[Seq]Retry
	// Turn counts the seeks. Progress of an earlier turn means nothing any more.
	Turn uint64
	// Paused is true while nothing is delivered.
	Paused bool
	// Letters are the dead letters that are done with.
	Letters Settled
	// Requeued are the dead letters that are delivered again, ascending.
	Requeued []Seq
}

// Apply adds an encoded progress.
func (s *Standing) Apply(body []byte) error {
	d := decoder{body: body}
	s.apply(&d)
	if !d.ok() {
		return ErrProgress
	}
	return nil
}

func (s *Standing) apply(d *decoder) {
	s.Raise(Seq(d.uvarint()))
	d.ranges(&s.Settled)
	for n := d.uvarint(); n > 0 && d.ok(); n-- {
		r := Retry{Seq: Seq(d.uvarint()), Attempts: d.byte(), DueMs: int64(d.uvarint())}
		if s.Retries == nil {
			s.Retries = map[Seq]Retry{}
		}
		s.Retries[r.Seq] = r
	}
	for seq := range s.Retries {
		if s.Contains(seq) {
			delete(s.Retries, seq)
		}
	}
}

// Seek begins a new turn at seq: everything below is settled, nothing from there on.
func (s *Standing) Seek(seq Seq) {
	s.Settled, s.Retries = Settled{}, nil
	s.Raise(seq)
	s.Turn++
}

// Requeue notes that the dead letter is delivered again.
func (s *Standing) Requeue(letter Seq) {
	if i, found := slices.BinarySearch(s.Requeued, letter); !found && !s.Letters.Contains(letter) {
		s.Requeued = slices.Insert(s.Requeued, i, letter)
	}
}

// IsRequeued tells whether the dead letter is being delivered again.
func (s *Standing) IsRequeued(letter Seq) bool {
	_, found := slices.BinarySearch(s.Requeued, letter)
	return found
}

// Discard notes that the dead letter is done with.
func (s *Standing) Discard(letter Seq) {
	s.Letters.Settle(Range{letter, letter + 1})
	if i, found := slices.BinarySearch(s.Requeued, letter); found {
		s.Requeued = slices.Delete(s.Requeued, i, i+1)
	}
}

// AppendStanding appends the whole standing as a checkpoint keeps it: a progress, then uvarints turn,
// paused, the ranges and the floor of the letters, the requeued.
func AppendStanding(dst []byte, s *Standing) []byte {
	p := s.Progress()
	dst = AppendProgress(dst, &p)
	dst = binary.AppendUvarint(dst, s.Turn)
	paused := byte(0)
	if s.Paused {
		paused = 1
	}
	dst = append(dst, paused)
	dst = binary.AppendUvarint(dst, uint64(s.Letters.Floor()))
	dst = appendRanges(dst, s.Letters.Ranges())
	dst = binary.AppendUvarint(dst, uint64(len(s.Requeued)))
	for _, letter := range s.Requeued {
		dst = binary.AppendUvarint(dst, uint64(letter))
	}
	return dst
}

// DecodeStanding reads what AppendStanding wrote.
func DecodeStanding(body []byte) (*Standing, error) {
	s, d := &Standing{}, decoder{body: body}
	s.apply(&d)
	s.Turn = d.uvarint()
	s.Paused = d.byte() == 1
	s.Letters.Raise(Seq(d.uvarint()))
	d.ranges(&s.Letters)
	for n := d.uvarint(); n > 0 && d.ok(); n-- {
		s.Requeue(Seq(d.uvarint()))
	}
	if !d.ok() {
		return nil, ErrProgress
	}
	return s, nil
}

// Progress returns the standing as one progress.
func (s *Standing) Progress() Progress {
	p := Progress{Floor: s.Floor(), Settled: s.Ranges()}
	for _, r := range s.Retries {
		p.Retries = append(p.Retries, r)
	}
	slices.SortFunc(p.Retries, func(a, b Retry) int { return cmpSeq(a.Seq, b.Seq) })
	return p
}

// DeadStream names the dense sequence of the dead letters of a group on a topic. '/' keeps it apart from topics.
func DeadStream(topic, group string) string { return topic + "/" + group }

// CutDead returns whose dead letters the stream has; dead is false when it is one of messages.
func CutDead(stream string) (topic, group string, dead bool) { return strings.Cut(stream, "/") }

// DeadLetter is why a message ended in a group's dead letters, and the message. When it died is the
// TimeMs of its record.
type DeadLetter struct {
	Seq         Seq // in its topic
	Attempts    uint8
	Command     uint8
	PublishedMs int64  // when the message was stored, Unix ms
	Reason      string // what ended it
	Feedback    string // of the last answer that was no ack, or why there was none; "" when it was never sent
	Payload     []byte
}

// AppendDeadLetter appends the encoded dead letter: uvarint seq, attempts, command, uvarint published, and
// uvarint length and bytes of the reason and of the feedback, the payload.
func AppendDeadLetter(dst []byte, l *DeadLetter) []byte {
	dst = binary.AppendUvarint(dst, uint64(l.Seq))
	dst = append(dst, l.Attempts, l.Command)
	dst = binary.AppendUvarint(dst, uint64(l.PublishedMs))
	for _, text := range [...]string{l.Reason, l.Feedback} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	return append(dst, l.Payload...)
}

// DecodeDeadLetter reads what AppendDeadLetter wrote. Payload is a view of body.
func DecodeDeadLetter(body []byte) (DeadLetter, error) {
	d := decoder{body: body}
	l := DeadLetter{Seq: Seq(d.uvarint()), Attempts: d.byte(), Command: d.byte(), PublishedMs: int64(d.uvarint())}
	l.Reason = string(d.bytes(d.uvarint()))
	l.Feedback = string(d.bytes(d.uvarint()))
	l.Payload = d.body
	if !d.ok() {
		return DeadLetter{}, errors.New("malformed dead letter")
	}
	return l, nil
}

// decoder reads from the front of body; the first read past its end makes every later one give zero.
type decoder struct {
	body []byte
	bad  bool
}

func (d *decoder) ok() bool { return !d.bad }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.body)
	if n <= 0 || d.bad {
		d.bad = true
		return 0
	}
	d.body = d.body[n:]
	return v
}

func (d *decoder) ranges(into *Settled) {
	for n := d.uvarint(); n > 0 && d.ok(); n-- {
		from, length := d.uvarint(), d.uvarint()
		into.Settle(Range{Seq(from), Seq(from + length)})
	}
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) bytes(n uint64) []byte {
	if d.bad || n > uint64(len(d.body)) {
		d.bad = true
		return nil
	}
	b := d.body[:n]
	d.body = d.body[n:]
	return b
}
