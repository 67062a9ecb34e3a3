package handler

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// TestValidation is the table of the interop contract §5.2: who is refused, in what order, in which words.
func TestValidation(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", kite.MaxName+1)
	for _, c := range []struct {
		name   string
		change func(*protocol.Header)
		want   string // of the direct answer; empty: the lane got it
		ok     bool
	}{
		{"good", nil, "", true},
		{"topic before all others", func(h *protocol.Header) { h.Topic = "aaa-unknown" }, "UnSupport Topic Message!", false},
		{"topic after all others", func(h *protocol.Header) { h.Topic = "zzz-unknown" }, "UnSupport Topic Message!", false},
		{"topic empty", func(h *protocol.Header) { h.Topic = "" }, "UnSupport Topic Message!", false},
		{"topic and id", func(h *protocol.Header) { h.Topic, h.MessageID = "none", "bad" }, "UnSupport Topic Message!", false},
		{"id too short", func(h *protocol.Header) { h.MessageID = idLower[1:] }, "Invalid MessageId For UUID!", false},
		{"id too long", func(h *protocol.Header) { h.MessageID += "0" }, "Invalid MessageId For UUID!", false},
		{"id not hexadecimal", func(h *protocol.Header) { h.MessageID = "g" + idLower[1:] }, "Invalid MessageId For UUID!", false},
		{"id with dashes", func(h *protocol.Header) { h.MessageID = "01234567-89ab-cdef-0123-456789ab" }, "Invalid MessageId For UUID!", false},
		{"id of both cases", func(h *protocol.Header) { h.MessageID = idMixed }, "", true},
		{"id and expiry", func(h *protocol.Header) { h.MessageID, h.ExpiredTime = "bad", 1 }, "Invalid MessageId For UUID!", false},
		{"expired", func(h *protocol.Header) { h.ExpiredTime = clock.Unix() }, "Expired Message!", false},
		{"expires in a second", func(h *protocol.Header) { h.ExpiredTime = clock.Unix() + 1 }, "", true},
		{"expired and fly", func(h *protocol.Header) { h.ExpiredTime, h.Fly = 5, true }, "Expired Message!", false},
		{"fly", func(h *protocol.Header) { h.Fly = true }, "FLY NO NEED SAVE", true},
		{"fly not committed", func(h *protocol.Header) { h.Fly, h.Commit = true, false }, "FLY MUST BE COMMITTED !", false},
		{"prepared", func(h *protocol.Header) { h.Commit = false }, "", true},
		{"type of the longest", func(h *protocol.Header) { h.MessageType = long[1:] }, "", true},
		{"type too long", func(h *protocol.Header) { h.MessageType = long }, "Message Type Too Long: 256 bytes, at most 255", false},
		{"group too long", func(h *protocol.Header) { h.GroupID = long }, "Group Id Too Long: 256 bytes, at most 255", false},
	} {
		for _, f := range []protocol.Framing{protocol.FramingG, protocol.FramingL} {
			t.Run(c.name+"/"+f.String(), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				s, _ := r.member(f, "p-trade")
				h := header(c.change)
				got, err := r.say(s, publish(f, 0, h))
				if err != nil {
					t.Errorf("the connection is closed: %v", err)
				}
				if c.want == "" {
					expect(t, got)
					if n := len(r.items()); n != 1 {
						t.Errorf("the lane got %d items", n)
					}
					return
				}
				expect(t, got, fmt.Sprintf("storeAck 0 %s %v %s", h.MessageID, c.ok, c.want))
				if len(r.items()) != 0 || len(r.settler.fly) != btoi(c.ok) {
					t.Errorf("the lane got %d items, %d fly", len(r.items()), len(r.settler.fly))
				}
			})
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestNormalise fills in what consumers will see, and leaves the rest of the payload alone.
func TestNormalise(t *testing.T) {
	t.Parallel()
	now := clock.Unix()
	week := now + int64(kite.MaxLifetime/time.Second)
	for _, c := range []struct {
		name                   string
		change                 func(*protocol.Header)
		create, expire, attemp int64
	}{
		{"nothing to do", func(h *protocol.Header) { h.CreateTime, h.ExpiredTime, h.DeliverLimit = 5, now+60, 7 }, 5, now + 60, 7},
		{"no create time", func(h *protocol.Header) { h.CreateTime = 0 }, now, week, 100},
		{"negative create time", func(h *protocol.Header) { h.CreateTime = -3 }, now, week, 100},
		{"no expiry", func(h *protocol.Header) { h.ExpiredTime = 0 }, now, week, 100},
		{"expiry in a week", func(h *protocol.Header) { h.ExpiredTime = week }, now, week, 100},
		{"expiry after a week", func(h *protocol.Header) { h.ExpiredTime = week + 1 }, now, week, 100},
		{"no limit", func(h *protocol.Header) { h.DeliverLimit = 0 }, now, week, 100},
		{"negative limit", func(h *protocol.Header) { h.DeliverLimit = -1 }, now, week, 100},
		{"limit 1", func(h *protocol.Header) { h.DeliverLimit = 1 }, now, week, 1},
		{"limit over the bound", func(h *protocol.Header) { h.DeliverLimit = 101 }, now, week, 100},
		{"prepared", func(h *protocol.Header) { h.Commit = false }, now, week, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, _ := r.member(protocol.FramingG, "p-trade")
			h := header(c.change)
			h.Properties = map[string]string{"trace": "77"}
			if _, err := r.say(s, publish(protocol.FramingG, 9, h)); err != nil {
				t.Fatal(err)
			}
			item := r.items()[0]
			var m protocol.MessageView
			if err := m.Decode(item.Body); err != nil {
				t.Fatal(err)
			}
			if m.Header.CreateTime != c.create || m.Header.ExpiredTime != c.expire || int64(m.Header.DeliverLimit) != c.attemp || !m.Header.Commit {
				t.Errorf("delivered as createTime %d, expiredTime %d, deliverLimit %d, commit %v; want %d, %d, %d, true",
					m.Header.CreateTime, m.Header.ExpiredTime, m.Header.DeliverLimit, m.Header.Commit, c.create, c.expire, c.attemp)
			}
			if trace, _ := m.Header.Property("trace"); string(m.Body) != "body" || string(trace) != "77" {
				t.Errorf("body %q, trace %q", m.Body, trace)
			}
			kind := kite.KindMessage
			if !h.Commit {
				kind = kite.KindPrepared
			}
			if item.Kind != kind || item.ExpiresMs != c.expire*1000 || int64(item.Limit) != c.attemp || item.Command != 0x11 || item.Opaque != 9 ||
				item.Topic != "trade" || string(item.Type) != "pay-succ" || string(item.Group) != "p-trade" || string(item.Name) != idLower {
				t.Errorf("item %+v", item)
			}
		})
	}
}

// TestTooLarge refuses, before it is stored, what might not fit a frame when it is delivered.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.member(protocol.FramingG, "p-trade")
	frame := func(size int) []byte {
		empty := len(protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdStringMessage, header(nil), make([]byte, 1<<20))) - 19 - 1<<20
		return protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdStringMessage, header(nil), make([]byte, size-empty))
	}
	got, _ := r.say(s, frame(kite.MaxPayload-normalGrowth))
	expect(t, got)
	if len(r.items()) != 1 || r.items()[0].Command != 0x12 {
		t.Fatal("the largest message does not come through")
	}
	got, _ = r.say(s, frame(kite.MaxPayload-normalGrowth+1))
	expect(t, got, "storeAck 1 "+idLower+" false Message Too Large: 2097141 bytes, at most 2097140")
}

// TestRefused answers each message of a read that the lane does not take.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		refuse error
		stop   bool
		want   string
	}{
		{"busy", kite.Errorf(kite.Busy, "full"), false, "Store Result KiteQ OverFlow [" + address + "]"},
		{"poisoned", kite.Errorf(kite.Unavailable, "broken"), false, "Store Result false Cost:0 unavailable"},
		{"unclear", errors.New("odd"), false, "Store Result false Cost:0 internal"},
		{"stopping", nil, true, "Store Result KiteQ OverFlow [" + address + "]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, _ := r.member(protocol.FramingL, "p-trade")
			r.lane.refuse = c.refuse
			if c.stop {
				r.Refuse()
			}
			got, err := r.say(s, publish(protocol.FramingL, 5, header(nil)),
				protocol.AppendTxAck(nil, protocol.FramingL, 6, rawHeader(t, nil), 1, ""),
				publish(protocol.FramingL, 7, header(func(h *protocol.Header) { h.MessageID, h.Commit = idMixed, false })))
			if err != nil {
				t.Error(err)
			}
			expect(t, got, "storeAck 5 "+idLower+" false "+c.want, "storeAck 7 "+idMixed+" false "+c.want)
		})
	}
}

// TestFly hands messages that are not stored to the dispatcher, which owns their bytes: those of one read in
// one go, as long as they are few bytes.
func TestFly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.member(protocol.FramingG, "p-trade")
	fly := func(opaque uint32, size int) []byte {
		h := header(func(h *protocol.Header) { h.Fly, h.MessageID = true, idMixed })
		return protocol.AppendMessage(nil, protocol.FramingG, opaque, protocol.CmdBytesMessage, h, bytes.Repeat([]byte{byte(opaque)}, size))
	}
	got, _ := r.say(s, fly(4, 10), fly(5, flyArena), fly(6, 30))
	expect(t, got, "storeAck 4 "+idMixed+" true FLY NO NEED SAVE", "storeAck 5 "+idMixed+" true FLY NO NEED SAVE", "storeAck 6 "+idMixed+" true FLY NO NEED SAVE")
	if len(r.settler.fly) != 2 || len(r.settler.fly[0]) != 2 || len(r.settler.fly[1]) != 1 {
		t.Fatalf("handed over in %d goes", len(r.settler.fly))
	}
	for i, item := range slices.Concat(r.settler.fly...) {
		var m protocol.MessageView
		err := m.Decode(item.Body)
		if err != nil || len(m.Body) != []int{10, flyArena, 30}[i] || bytes.Count(m.Body, []byte{byte(4 + i)}) != len(m.Body) {
			t.Errorf("fly %d: %d bytes, %v", i, len(m.Body), err)
		}
		if item.Topic != "trade" || string(item.Type) != "pay-succ" || item.Limit != 100 {
			t.Errorf("fly %d: %+v", i, item)
		}
	}
}

// TestDurable answers in one write for each connection, in order, in the words of each verdict.
func TestDurable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, connA := r.member(protocol.FramingG, "p-a")
	b, connB := r.member(protocol.FramingL, "p-b")
	c, connC := r.member(protocol.FramingG, "p-c")
	item := func(kind kite.Kind, opaque uint32, verdict kite.Code, repeat bool) kite.Item {
		return kite.Item{Record: kite.Record{Kind: kind}, Opaque: opaque, Name: []byte(idMixed), Verdict: verdict, Repeat: repeat}
	}
	batch := func(owner any, ago time.Duration, items ...kite.Item) *kite.Batch {
		return &kite.Batch{Owner: owner, Received: clock.Add(-ago * time.Millisecond), Items: items}
	}
	r.Durable([]*kite.Batch{
		batch(a, 3, item(kite.KindMessage, 0, kite.OK, false), item(kite.KindPrepared, 1, kite.OK, true)),
		batch(b, -50, item(kite.KindMessage, 2, kite.Busy, false)),
		batch("a flow", 0, item(kite.KindDead, 9, kite.OK, false)),
		batch(a, 12, item(kite.KindCommit, 3, kite.OK, false), item(kite.KindMessage, 4, kite.Unavailable, false), item(kite.KindMessage, 5, kite.TxConflict, false)),
		batch(c, 0, item(kite.KindRollback, 6, kite.TxConflict, false), item(kite.KindPark, 6, kite.OK, false)),
		batch(b, 0, item(kite.KindPrepared, 7, kite.OK, false)),
	})
	want := map[*conn][]string{
		connA: {
			"storeAck 0 " + idMixed + " true Store Result true Cost:3 synced",
			"storeAck 1 " + idMixed + " true Store Result true Cost:3 synced duplicate",
			"storeAck 4 " + idMixed + " false Store Result false Cost:12 unavailable",
			"storeAck 5 " + idMixed + " false Store Result false Conflict:unknown",
		},
		connB: {
			"storeAck 2 " + idMixed + " false Store Result KiteQ OverFlow [" + address + "]",
			"storeAck 7 " + idMixed + " true Store Result true Cost:0 synced",
		},
	}
	for conn, lines := range want {
		f := protocol.FramingG
		if conn == connB {
			f = protocol.FramingL
		}
		if len(conn.writes) != 1 {
			t.Fatalf("%d writes, want one for all answers", len(conn.writes))
		}
		expect(t, words(t, f, conn.writes[0]), lines...)
	}
	if len(connC.writes) != 0 {
		t.Errorf("a verdict was answered: % x", connC.writes)
	}
}

// TestAnswersNameTheClass of each topic, which may change from message to message.
func TestAnswersNameTheClass(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.classes.Topics = map[string]kite.Class{"logs": kite.ClassWritten}
	s, conn := r.member(protocol.FramingG, "p-a")
	b := &kite.Batch{Owner: s, Received: clock.Add(-3 * time.Millisecond)}
	for i, topic := range []string{"trade", "logs", "logs", "trade"} {
		b.Items = append(b.Items, kite.Item{Record: kite.Record{Kind: kite.KindMessage, Topic: topic}, Opaque: uint32(i), Name: []byte(idLower), Repeat: i == 2})
	}
	r.Durable([]*kite.Batch{b})
	expect(t, words(t, protocol.FramingG, conn.writes[0]),
		"storeAck 0 "+idLower+" true Store Result true Cost:3 synced",
		"storeAck 1 "+idLower+" true Store Result true Cost:3 written",
		"storeAck 2 "+idLower+" true Store Result true Cost:3 written duplicate",
		"storeAck 3 "+idLower+" true Store Result true Cost:3 synced")
}

// TestBatchReuse gives batches back to later reads, empty.
func TestBatchReuse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.member(protocol.FramingG, "p-trade")
	for n := range 50 {
		if _, err := r.say(s, publish(protocol.FramingG, uint32(n), header(nil)), publish(protocol.FramingG, uint32(n), header(nil))); err != nil {
			t.Fatal(err)
		}
		b := r.lane.batches[0]
		if len(b.Items) != 2 || b.Owner != s || !b.Received.Equal(clock) || string(b.Items[1].Name) != idLower {
			t.Fatalf("read %d: batch of %d items, owner %v", n, len(b.Items), b.Owner)
		}
		r.lane.batches = nil
		b.Release(b)
	}
}

// TestRefusalsAreCounted, each by its reason, and those that the lane refuses, too.
func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.member(protocol.FramingG, "p-a")
	say := func(h *protocol.Header) {
		t.Helper()
		if _, err := r.say(s, publish(protocol.FramingG, 1, h)); err != nil {
			t.Fatal(err)
		}
	}
	say(header(func(h *protocol.Header) { h.Topic = "nothing" }))
	say(header(func(h *protocol.Header) { h.MessageID = "x" }))
	say(header(func(h *protocol.Header) { h.ExpiredTime = 1 }))
	r.lane.refuse = kite.Errorf(kite.Busy, "full")
	say(header(nil))
	r.lane.refuse = kite.Errorf(kite.Unavailable, "poisoned")
	say(header(nil))
	r.Durable([]*kite.Batch{{Owner: s, Received: clock.Add(-time.Second), Items: []kite.Item{
		{Record: kite.Record{Kind: kite.KindMessage}, Verdict: kite.Busy},
		{Record: kite.Record{Kind: kite.KindMessage}, Verdict: kite.TxConflict},
		{Record: kite.Record{Kind: kite.KindMessage}, Verdict: kite.Unavailable},
		{Record: kite.Record{Kind: kite.KindMessage}},
		{Record: kite.Record{Kind: kite.KindCommit}},
	}}})
	r.lane.refuse = nil
	r.Hold(RefusedDisk, "disk low")
	if got, err := r.say(s, publish(protocol.FramingG, 1, header(nil))); err != nil || len(got) != 1 || !strings.HasSuffix(got[0], "false Store Result KiteQ OverFlow ["+address+"] disk low") {
		t.Errorf("held: %q, %v", got, err)
	}
	r.Open()
	say(header(nil))
	if n := len(r.items()); n != 1 {
		t.Errorf("%d messages for the lane after Open, want 1", n)
	}
	r.Refuse()
	say(header(nil))
	got := r.Stats()
	want := map[string]int64{
		"rate": 0, "busy": 2, "stopping": 1, "disk": 1, "memory": 0, "unavailable": 2, "topic": 1, "id": 1, "expired": 1,
		"size": 0, "delay": 0, "fly": 0, "conflict": 1, "right": 0,
	}
	if !maps.Equal(got.Refused, want) {
		t.Errorf("%v, want %v", got.Refused, want)
	}
	if got.Acked.Count() != 1 || got.Acked.Sum != time.Second {
		t.Errorf("%d answers took %v together", got.Acked.Count(), got.Acked.Sum)
	}
}
