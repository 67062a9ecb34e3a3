package handler

import (
	"errors"
	"slices"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// doorman lets in at once whose key is "known", looks at others when the test says so, and knows one right.
type doorman struct{ looks []func(error) }

func (d *doorman) Admit(_, key, _ string, done func(error)) (bool, error) {
	switch key {
	case "known":
		return true, nil
	case "known to be wrong":
		return true, kite.Errorf(kite.Unauthorized, "wrong")
	case "too many":
		return true, kite.Errorf(kite.Busy, "busy")
	}
	d.looks = append(d.looks, done)
	return false, nil
}

func (d *doorman) MayPublish(group, topic string) bool { return group == "p-trade" && topic == "trade" }
func (d *doorman) MayDecide(group string) bool         { return group == "p-trade" }

func guarded(t *testing.T) (*rig, *doorman) {
	t.Helper()
	r, d := newRig(t), &doorman{}
	r.Guard(d)
	return r, d
}

func keyed(opaque uint32, group, key string) []byte {
	return protocol.AppendConnMeta(nil, protocol.FramingG, opaque, protocol.ConnMeta{GroupID: group, SecretKey: key, Level: 1})
}

// TestGateAtOnce answers in the same read who is known, one way or the other.
func TestGateAtOnce(t *testing.T) {
	t.Parallel()
	r, _ := guarded(t)
	s, _ := r.dial(protocol.FramingG)
	got, err := r.say(s, keyed(1, "p-trade", "known"), publish(protocol.FramingG, 2, header(nil)))
	if err != nil || !slices.Equal(got, []string{"connAuthAck 1 true Auth Succ"}) || len(r.items()) != 1 {
		t.Errorf("%q, %v, %d items", got, err, len(r.items()))
	}
	s, _ = r.dial(protocol.FramingG)
	got, err = r.say(s, keyed(1, "p-trade", "known to be wrong"), publish(protocol.FramingG, 2, header(nil)))
	if !errors.Is(err, kite.Unauthorized) || !slices.Equal(got, []string{"connAuthAck 1 false Unauthorized: wrong"}) || s.Group() != "" {
		t.Errorf("%q, %v", got, err)
	}
	s, _ = r.dial(protocol.FramingG)
	if got, err := r.say(s, keyed(1, "p-trade", "too many")); !errors.Is(err, kite.Busy) || len(got) != 0 {
		t.Errorf("a refusal would be for ever: %q, %v", got, err)
	}
	if len(r.items()) != 1 {
		t.Error("something of those who were refused came in")
	}
}

// TestGateLater answers when the key has been looked at, the newest ConnMeta of those that asked. Until then the
// connection is a member of nothing and may ask for nothing.
func TestGateLater(t *testing.T) {
	t.Parallel()
	r, d := guarded(t)
	s, c := r.dial(protocol.FramingG)
	if got, err := r.say(s, keyed(1, "p-trade", "new"), keyed(2, "p-trade", "new"), protocol.AppendHeartbeat(nil, protocol.FramingG, 3, 3)); err != nil || !slices.Equal(got, []string{"heartbeat 3 3"}) {
		t.Errorf("%q, %v", got, err)
	}
	if len(d.looks) != 1 || s.Group() != "" || len(r.settler.told) != 0 {
		t.Fatalf("%d looks, group %q, told %q", len(d.looks), s.Group(), r.settler.told)
	}
	d.looks[0](nil)
	if got := words(t, protocol.FramingG, c.writes[0]); !slices.Equal(got, []string{"connAuthAck 2 true Auth Succ"}) || s.Group() != "p-trade" || !slices.Equal(r.settler.told, []string{"joined p-trade"}) {
		t.Errorf("%q, group %q, told %q", got, s.Group(), r.settler.told)
	}

	s, c = r.dial(protocol.FramingG)
	if _, err := r.say(s, keyed(1, "p-trade", "bad")); err != nil {
		t.Fatal(err)
	}
	got, err := r.say(s, publish(protocol.FramingG, 2, header(nil)))
	if !errors.Is(err, errUnauthorized) || len(got) != 1 || len(r.items()) != 0 {
		t.Errorf("a publish before the answer: %q, %v", got, err)
	}
	d.looks[1](kite.Errorf(kite.Unauthorized, "wrong"))
	if got := words(t, protocol.FramingG, c.writes[0]); !slices.Equal(got, []string{"connAuthAck 1 false Unauthorized: wrong"}) || s.Group() != "" {
		t.Errorf("%q, group %q", got, s.Group())
	}

	s, c = r.dial(protocol.FramingG)
	if _, err := r.say(s, keyed(1, "p-trade", "one"), keyed(2, "s-books", "two")); err != nil {
		t.Fatal(err)
	}
	d.looks[2](nil) // of a group that it no longer asks for
	if s.Group() != "" || len(c.writes) != 0 {
		t.Errorf("joined %q by an answer about another group", s.Group())
	}
	d.looks[3](nil)
	if s.Group() != "s-books" {
		t.Errorf("group %q", s.Group())
	}
}

// TestGateRights refuses publishes and verdicts of who has not the right.
func TestGateRights(t *testing.T) {
	t.Parallel()
	r, _ := guarded(t)
	member := func(group string) func(raw ...[]byte) []string {
		s, _ := r.dial(protocol.FramingG)
		if _, err := r.say(s, keyed(1, group, "known")); err != nil {
			t.Fatal(err)
		}
		return func(raw ...[]byte) []string {
			got, err := r.say(s, raw...)
			if err != nil {
				t.Error(err)
			}
			return got
		}
	}
	elsewhere := func(h *protocol.Header) { h.Topic = "message" }
	fly := func(h *protocol.Header) { h.Fly, h.Topic = true, "message" }
	f := protocol.FramingG
	till := member("p-trade")
	expect(t, till(publish(f, 2, header(nil)), publish(f, 3, header(elsewhere)), publish(f, 4, header(fly)), publish(f, 5, header(nil))),
		"storeAck 3 "+idLower+" false Unauthorized: group p-trade may not publish to topic message",
		"storeAck 4 "+idLower+" false Unauthorized: group p-trade may not publish to topic message")
	if n := len(r.items()); n != 2 || len(r.settler.fly) != 0 {
		t.Errorf("%d items, %d fly messages: want the two of trade", n, len(r.settler.fly))
	}
	books := member("s-books")
	raw := rawHeader(t, func(h *protocol.Header) { h.MessageID = idLower })
	expect(t, books(publish(f, 2, header(nil)), protocol.AppendTxAck(nil, f, 3, raw, protocol.StatusRollback, "")),
		"storeAck 2 "+idLower+" false Unauthorized: group s-books may not publish to topic trade",
		"txReceipt 3 "+idLower+" unauthorized: unknown by \"\" at 0")
	if n := len(r.items()); n != 2 {
		t.Errorf("%d items: a group without the right decided", n)
	}
	till(protocol.AppendTxAck(nil, f, 3, raw, protocol.StatusRollback, ""))
	if n := len(r.items()); n != 3 {
		t.Errorf("%d items: the verdict of who has the right is missing", n)
	}
}
