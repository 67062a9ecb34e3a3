package mysql

import (
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
)

// stream is the dense sequence of a topic, of a group's dead letters, or of the messages due in a minute.
type stream struct {
	name  string
	topic string // "" for a minute
	table int
	where string // what selects its rows, "?" for each of keys
	keys  []any
	arg   driver.Value // the topic, for inserts

	// Guarded by Journal.mu. next is 0 when the stream never had a record, firstAt when it is not known where
	// the first lies. The lane, which alone changes next, reads that without.
	first, next kite.Seq
	firstAt     kite.Position

	recent []*kite.Record // the newest, as Read shows them, if they are in memory; guarded by Journal.mu

	// Of Append: the Seq after those that transaction number turn has given so far.
	turn    uint64
	pending kite.Seq
}

func newStream(journal uint32, name string, shards int) *stream {
	name = strings.Clone(name)
	s := &stream{name: name, topic: name}
	if minute, ok := kite.DelayMinute(name); ok {
		s.topic, s.table = "", delayedTable
		s.where = fmt.Sprintf("journal=%d AND minute=%d", journal, minute)
		return s
	}
	topic, group, dead := kite.CutDead(name)
	s.topic, s.arg = topic, []byte(topic)
	s.keys = []any{[]byte(topic)}
	if dead {
		s.table, s.keys = deadTable, append(s.keys, []byte(group))
		s.where = fmt.Sprintf("journal=%d AND topic=? AND grp=?", journal)
		return s
	}
	s.table = shardOf(topic, shards)
	s.where = fmt.Sprintf("journal=%d AND topic=?", journal)
	return s
}

// add notes the newest record. It is called under Journal.mu.
func (s *stream) add(r *kite.Record) {
	if s.next == 0 || s.first == s.next {
		s.first, s.firstAt = r.Seq, r.Position
	}
	s.next = r.Seq + 1
}

// bounds returns first and next, both 1 for a stream that never had a record.
func (s *stream) bounds() (first, next kite.Seq) {
	if s == nil || s.next == 0 {
		return 1, 1
	}
	return s.first, s.next
}

// streamKey appends store.Stream of the record.
func streamKey(dst []byte, r *kite.Record) []byte {
	switch r.Kind {
	case kite.KindMessage, kite.KindCommit:
		return append(dst, r.Topic...)
	case kite.KindDead:
		return append(append(append(dst, r.Topic...), '/'), r.Group...)
	case kite.KindDelayed:
		return kite.AppendDelayStream(dst, kite.Minute(r.DueMs))
	}
	return dst
}
