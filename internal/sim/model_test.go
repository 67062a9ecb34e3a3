package sim

import (
	"fmt"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
)

// model is what the promises P2 to P7 say about a history, and nothing of how the broker keeps them. It is
// told what clients and operators did, what clients received and what the journal holds, and notes what is
// wrong with that.
type model struct {
	messages      map[string]*message
	topics        map[string][]*message // by Seq - 1
	flows         []*flow
	answerMs      int64 // how long a delivery may stay unanswered
	free          bool  // attempts may count for nothing: there are breakers
	checks, lives int   // checks after which a transaction may be parked; brokers that died or stopped
	wrong         []string
}

// fate is what may have become of a message: several while the word of a dead broker is not known.
type fate uint8

const absent, open, committed, rolledBack fate = 1, 2, 4, 8

// decided tells what a fate becomes when a message is published or prepared, or its transaction decided.
var decided = map[string][2]fate{"publish": {absent, committed}, "prepare": {absent, open}, "commit": {open, committed}, "rollback": {open, rolledBack}} //nolint:gochecknoglobals // constant

type message struct {
	name, topic, kind, key, group, body string
	limit, seq, asked                   int
	dueMs, expiresMs                    int64
	may                                 fate
}

// flow is a topic's messages on their way to a group.
type flow struct {
	kite.Binding
	pausedMs int64  // 0: it goes on
	turn     uint64 // seeks
	floor    int    // of the newest one
	marks    map[int]*mark
}

// mark is how a message stands with a group since the newest seek.
type mark struct {
	ackedMs, diedMs int64          // 0: not
	over, exempt    bool           // it must not come again; it is requeued, or of no worth for the flow
	sends, since    int            // how often, and since which life
	by              map[*conn]bool // who acknowledged it in this life
}

func (m *model) check(ok bool, format string, args ...any) {
	if !ok {
		m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
	}
}

func (f *flow) takes(msg *message) bool {
	return f.Topic == msg.topic && (f.Type == kite.BindFanout || f.MessageType == msg.kind)
}

func (f *flow) mark(m *model, seq int) *mark {
	if f.marks[seq] == nil {
		f.marks[seq] = &mark{since: m.lives, by: map[*conn]bool{}}
	}
	return f.marks[seq]
}

// did says that somebody asked for something about the message; sure is false when the broker died over it.
func (m *model) did(what string, msg *message, sure bool) {
	if before, step := msg.may, decided[what]; before&step[0] != 0 {
		if msg.may = before&^step[0] | step[1]; !sure {
			msg.may |= before
		}
	}
}

// answered says that a publish or a prepare was answered, after did (P3).
func (m *model) answered(what string, msg *message, ok bool) {
	is := map[string]fate{"publish": committed, "prepare": committed | open}[what]
	if !ok {
		is = ^is
	}
	m.check(msg.may&is != 0, "P3: %s of %s is answered %v, and it is %04b", what, msg.name, ok, msg.may)
	msg.may &= is
}

// checked says that a member of a group was asked about the message (P5).
func (m *model) checked(c *conn, msg *message) {
	msg.asked++
	m.check(msg.may == open && c.group == msg.group, "P5: %s of %s is asked about %s of %s, which is %04b", c.name, c.group, msg.name, msg.group, msg.may)
}

// grew says that the journal has the message as the next of its topic (P3, P4, P5).
func (m *model) grew(msg *message, r *kite.Record) {
	ok := msg.may&committed != 0 && msg.seq == 0 && int(r.Seq) == len(m.topics[msg.topic])+1 && r.TimeMs >= msg.dueMs
	m.check(ok, "P3, P4: %s is stored as seq %d at %d; it is %04b, due at %d, and has seq %d", msg.name, r.Seq, r.TimeMs, msg.may, msg.dueMs, msg.seq)
	msg.may, msg.seq = committed, int(r.Seq)
	m.topics[msg.topic] = append(m.topics[msg.topic], msg)
}

// stored says that it is nowMs: what is committed and due has its place (P4).
func (m *model) stored(nowMs int64) {
	for _, msg := range m.messages {
		m.check(msg.may != committed || msg.seq > 0 || msg.dueMs+2000 >= nowMs, "P4: %s is committed, was due at %d and has no seq at %d", msg.name, msg.dueMs, nowMs)
	}
}

// delivered says that a member got the message; out is what had not been answered then.
func (m *model) delivered(d *delivery, out []*delivery) {
	f, msg := d.flow, d.message
	k := f.mark(m, msg.seq)
	k.sends++
	m.check(msg.may == committed && msg.seq > 0 && d.atMs >= msg.dueMs, "P4, P5: %s is %04b, due at %d, and was delivered at %d", msg.name, msg.may, msg.dueMs, d.atMs)
	m.check(f.takes(msg) && (f.pausedMs == 0 || d.atMs <= f.pausedMs), "%s was not to be delivered to %s at %d", msg.name, f.Group, d.atMs)
	m.check(d.text == msg.body, "P7: %s was delivered as %q", msg.body, d.text)
	if k.exempt || msg.seq == 0 {
		return
	}
	over := k.over || k.by[d.conn] || k.diedMs > 0 && d.atMs > k.diedMs || msg.seq < f.floor || msg.expiresMs > 0 && d.atMs >= msg.expiresMs
	m.check(!over, "P2: %s was delivered to %s at %d after it was over: acked at %d, dead at %d, floor %d", msg.name, f.Group, d.atMs, k.ackedMs, k.diedMs, f.floor)
	often := !m.free && !f.Broadcast && k.sends > msg.limit*(m.lives-k.since+1)
	m.check(!often, "P2: %s was delivered to %s %d times in %d lives, its limit is %d", msg.name, f.Group, k.sends, m.lives-k.since+1, msg.limit)
	if f.Order != kite.OrderNone && !over {
		m.inOrder(d, out)
	}
}

// inOrder says that whatever of the key comes before is over, and with nobody (P6).
func (m *model) inOrder(d *delivery, out []*delivery) {
	f, msg := d.flow, d.message
	same := func(other *message) bool {
		return other != msg && (f.Order == kite.OrderByTopic || other.key == msg.key)
	}
	for _, other := range m.topics[f.Topic][f.floor-1 : msg.seq-1] {
		k := f.mark(m, other.seq)
		m.check(!f.takes(other) || !same(other) || k.exempt || k.ackedMs > 0 || k.diedMs > 0 && k.diedMs <= d.atMs,
			"P6: %s was delivered to %s before %s was over", msg.name, f.Group, other.name)
	}
	for _, o := range out {
		with := o.flow == f && o.turn == f.turn && same(o.message) && d.atMs-o.atMs < m.answerMs && !f.mark(m, o.message.seq).exempt
		m.check(!with, "P6: %s was delivered while %s was with %s", msg.name, o.message.name, o.conn.name)
	}
}

// acked says that a member acknowledged the delivery.
func (m *model) acked(d *delivery, nowMs int64) {
	if k := d.flow.mark(m, d.message.seq); d.turn == d.flow.turn {
		k.ackedMs, k.over, k.by[d.conn] = nowMs, k.over || !d.flow.Broadcast, true
	}
}

// died says that the journal has a new dead letter; explained, once its deliveries are known, why (P2).
func (m *model) died(f *flow, msg *message, atMs int64) {
	k := f.mark(m, msg.seq)
	m.check(f.takes(msg) && (k.diedMs == 0 || k.exempt), "P2: %s died for %s at %d, and before at %d", msg.name, f.Group, atMs, k.diedMs)
	k.diedMs = atMs
}

func (m *model) explained(f *flow, msg *message, l *kite.DeadLetter, atMs int64) {
	k, keyless := f.mark(m, msg.seq), f.Order == kite.OrderByKey && msg.key == ""
	ok := strings.Contains(l.Reason, "expired") && msg.expiresMs > 0 && msg.expiresMs <= atMs ||
		strings.Contains(l.Reason, "order key missing") && keyless ||
		strings.Contains(l.Reason, "deliver limit") && int(l.Attempts) == msg.limit && (k.sends >= msg.limit && !keyless || k.exempt)
	m.check(ok, "P2: %s died for %s after %d attempts: %s; %d were sent, the limit is %d, keyless %v", msg.name, f.Group, l.Attempts, l.Reason, k.sends, msg.limit, keyless)
}

// sought says that the group goes on at seq; what of the topic is left there is for it once more.
func (m *model) sought(f *flow, seq int, left map[int]bool) {
	old := f.marks
	f.turn, f.floor, f.marks = f.turn+1, seq, map[int]*mark{}
	for s := 1; s <= len(m.topics[f.Topic]); s++ {
		f.mark(m, s).exempt = s >= seq && !left[s] || old[s] != nil && old[s].exempt
	}
}

// found says what a new broker finds of a message (P3, P4, P5).
func (m *model) found(msg *message, is fate, parked bool, nowMs int64) {
	early := parked && msg.asked < m.checks && (msg.expiresMs == 0 || msg.expiresMs > nowMs)
	m.check(msg.may&is != 0 && (msg.seq == 0 || is == committed) && !early, "P3, P5: %s was %04b and is %04b, parked %v after %d checks", msg.name, msg.may, is, parked, msg.asked)
	msg.may = is
}

// resumed says where a new broker finds a group (P2). What that has settled was answered or is dead, and what
// was answered before savedMs is settled.
func (m *model) resumed(f *flow, s *kite.Standing, savedMs int64) {
	m.check(s.Turn == f.turn && s.Paused == (f.pausedMs > 0), "%s on %s stands at turn %d, paused %v; it was %d, paused at %d", f.Group, f.Topic, s.Turn, s.Paused, f.turn, f.pausedMs)
	for i, msg := range m.topics[f.Topic] {
		k, settled := f.mark(m, i+1), s.Contains(kite.Seq(i+1))
		kept := settled && k.ackedMs+k.diedMs > 0 || !settled && k.diedMs == 0 && (k.ackedMs == 0 || k.ackedMs >= savedMs || f.Broadcast)
		m.check(kept || !f.Durable || !f.takes(msg) || k.exempt || i+1 < f.floor, "P2: %s of %s: acked at %d, dead at %d, settled in the journal %v", msg.name, f.Group, k.ackedMs, k.diedMs, settled)
		if k.over = settled; !settled {
			k.ackedMs = 0
		}
		clear(k.by)
	}
}
