package handler

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// rawHeader is the encoded Header that a TxAck repeats.
func rawHeader(t *testing.T, change func(*protocol.Header)) []byte {
	t.Helper()
	var m protocol.MessageView
	if err := m.Decode(cut(t, protocol.FramingG, publish(protocol.FramingG, 1, header(change)))[0].Payload); err != nil {
		t.Fatal(err)
	}
	return m.Header.Raw
}

func connMeta(f protocol.Framing, opaque uint32, group string) []byte {
	return protocol.AppendConnMeta(nil, f, opaque, protocol.ConnMeta{GroupID: group, SecretKey: "any", Level: 2})
}

// TestConnect makes one member of a connection, however often it introduces itself.
func TestConnect(t *testing.T) {
	t.Parallel()
	for _, f := range []protocol.Framing{protocol.FramingG, protocol.FramingL} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, _ := r.dial(f)
			got, err := r.say(s, connMeta(f, 0, "s-a"), connMeta(f, 8, "s-a"))
			if err != nil {
				t.Fatal(err)
			}
			expect(t, got, "connAuthAck 0 true Auth Succ", "connAuthAck 8 true Auth Succ")
			if members := r.directory.Members("s-a"); len(members) != 1 || members[0] != s || s.Level.Load() != 2 {
				t.Errorf("members %v, level %d", members, s.Level.Load())
			}
			got, _ = r.say(s, connMeta(f, 9, "s-b"))
			expect(t, got, "connAuthAck 9 true Auth Succ")
			if r.directory.Online("s-a") || !r.directory.Online("s-b") {
				t.Error("the connection is not in its new group, or still in the old one")
			}
			r.Writable(s)
			r.Closed(s)
			want := []string{"joined s-a", "joined s-a", "left s-a 1", "joined s-b", "joined s-b", "left s-b 1"}
			if !slices.Equal(r.settler.told, want) || !slices.Equal(r.watcher.joined, []string{"s-a", "s-a", "s-b"}) {
				t.Errorf("told %q and %q, want %q", r.settler.told, r.watcher.joined, want)
			}
			if r.directory.Online("s-b") {
				t.Error("a closed connection is a member")
			}
		})
	}
}

// TestConnectRefused closes the connection of a group that cannot be.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "a/b", "a\nb", strings.Repeat("g", 256)} {
		r := newRig(t)
		s, _ := r.dial(protocol.FramingG)
		got, err := r.say(s, connMeta(protocol.FramingG, 3, group), publish(protocol.FramingG, 4, header(nil)))
		if !errors.Is(err, kite.Invalid) || len(got) != 1 || !strings.HasPrefix(got[0], "connAuthAck 3 false group ") {
			t.Errorf("group %.20q: %q, %v", group, got, err)
		}
		if r.Closed(s); len(r.settler.told) != 0 {
			t.Errorf("told %q about a connection that was never a member", r.settler.told)
		}
	}
}

// TestBeforeConnect answers heartbeats to whoever asks, and nothing else before ConnMeta.
func TestBeforeConnect(t *testing.T) {
	t.Parallel()
	f := protocol.FramingG
	r := newRig(t)
	s, _ := r.dial(f)
	got, err := r.say(s, protocol.AppendHeartbeat(nil, f, 0, 1_700_000_000_123), protocol.AppendHeartbeat(nil, f, 5, -1))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, "heartbeat 0 1700000000123", "heartbeat 5 -1")
	for name, raw := range map[string][]byte{
		"publish":     publish(f, 6, header(nil)),
		"txAck":       protocol.AppendTxAck(nil, f, 6, rawHeader(t, nil), 1, ""),
		"deliverAck":  deliverAck(t, f, 6, true, ""),
		"unknown":     f.AppendFrame(nil, 6, 0x77, nil),
		"connAuthAck": protocol.AppendConnAuthAck(nil, f, 6, protocol.ConnAuthAck{OK: true}),
	} {
		got, err := r.say(s, raw, protocol.AppendHeartbeat(nil, f, 7, 1))
		if !errors.Is(err, errUnauthorized) {
			t.Errorf("%s: error %v", name, err)
		}
		expect(t, got, "connAuthAck 0 false Unauthorized,Connection broken!")
	}
	if len(r.lane.batches) != 0 || len(r.settler.told) != 0 {
		t.Errorf("the lane got %d batches, the settler %q", len(r.lane.batches), r.settler.told)
	}
	// What came before ConnMeta in the same read is lost, what comes behind it is not.
	late, _ := r.dial(f)
	got, err = r.say(late, connMeta(f, 1, "p-trade"), publish(f, 2, header(nil)))
	if err != nil || len(r.items()) != 1 {
		t.Errorf("%v, %d items", err, len(r.items()))
	}
	expect(t, got, "connAuthAck 1 true Auth Succ")
}

// TestIgnored keeps the connection over what cannot be read or is not known, and says nothing.
func TestIgnored(t *testing.T) {
	t.Parallel()
	f := protocol.FramingL
	r := newRig(t)
	s, _ := r.member(f, "s-a")
	r.settler.told = nil
	for _, cmd := range []protocol.Command{
		protocol.CmdHeartbeat, protocol.CmdConnMeta, protocol.CmdConnAuthAck, protocol.CmdStoreAck, protocol.CmdDeliverAck,
		protocol.CmdTxAck, protocol.CmdBytesMessage, protocol.CmdStringMessage, 0, 0x20, 0x77, 0xff,
	} {
		for _, payload := range [][]byte{nil, {0x0a}, {0xff, 0xff}, []byte("\x0a\x7fshort")} {
			got, err := r.say(s, f.AppendFrame(nil, 1, cmd, payload))
			if err != nil || len(got) != 0 {
				t.Errorf("%v with % x: %q, %v", cmd, payload, got, err)
			}
		}
	}
	if len(r.lane.batches) != 0 || len(r.settler.told) != 0 {
		t.Errorf("the lane got %d batches, the settler %q", len(r.lane.batches), r.settler.told)
	}
	got, err := r.say(s, f.AppendFrame(nil, 1, 0x77, nil), publish(f, 2, header(nil)), f.AppendFrame(nil, 3, protocol.CmdBytesMessage, []byte{1}), publish(f, 4, header(nil)))
	if err != nil || len(got) != 0 || len(r.items()) != 2 {
		t.Errorf("good frames beside bad ones: %q, %v, %d items", got, err, len(r.items()))
	}
}

// TestVerdict turns a verdict into a decision about the id, of any case and with any opaque.
func TestVerdict(t *testing.T) {
	t.Parallel()
	f := protocol.FramingG
	id, _ := kite.ParseMessageID(idLower)
	for _, c := range []struct {
		name   string
		id     string
		status int32
		want   kite.Kind // 0: ignored
	}{
		{"commit", idLower, 1, kite.KindCommit},
		{"rollback", idMixed, 2, kite.KindRollback},
		{"unknown", idLower, 0, 0},
		{"no status", idLower, 3, 0},
		{"negative status", idLower, -1, 0},
		{"bad id", "nothing", 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			s, _ := r.member(f, "p-trade")
			raw := rawHeader(t, func(h *protocol.Header) { h.MessageID, h.Topic, h.Commit = c.id, "elsewhere", false })
			got, err := r.say(s, protocol.AppendTxAck(nil, f, 0, raw, c.status, "because"))
			if err != nil || len(got) != 0 {
				t.Errorf("a verdict is never answered: %q, %v", got, err)
			}
			items := r.items()
			if c.want == 0 {
				if len(items) != 0 {
					t.Errorf("items %+v", items)
				}
				return
			}
			if len(items) != 1 || items[0].Kind != c.want || items[0].ID != id {
				t.Fatalf("items %+v", items)
			}
			if note := kite.DecodeNote(items[0].Body); note.Reason != "because" || note.By != s.Conn.RemoteAddr() {
				t.Errorf("note %+v", note)
			}
		})
	}
}

// TestReceipts answers the verdicts of clients that know receipts, and of no others.
func TestReceipts(t *testing.T) {
	t.Parallel()
	f := protocol.FramingG
	id, _ := kite.ParseMessageID(idLower)
	for name, c := range map[string]struct {
		item kite.Item // what became of it
		want string
	}{
		"committed": {
			kite.Item{Outcome: kite.OutcomeCommitted, Record: kite.Record{TimeMs: 77, Body: kite.AppendNote(nil, "10.0.0.1:9", "done")}},
			`txReceipt 6 ` + idLower + ` ok: committed by "10.0.0.1:9" at 77`,
		},
		"conflict": {
			kite.Item{Verdict: kite.TxConflict, Outcome: kite.OutcomeRolledBack, Record: kite.Record{TimeMs: 78, Body: kite.AppendNote(nil, "operator ann", "")}},
			`txReceipt 6 ` + idLower + ` transaction conflict: rolled back by "operator ann" at 78`,
		},
		"unknown":     {kite.Item{Verdict: kite.TxUnknown}, `txReceipt 6 ` + idLower + ` transaction unknown: unknown by "" at 0`},
		"unavailable": {kite.Item{Verdict: kite.Unavailable, Outcome: kite.OutcomeUnknown}, `txReceipt 6 ` + idLower + ` unavailable: unknown by "" at 0`},
	} {
		for level := range int32(2) {
			t.Run(fmt.Sprintf("%s at level %d", name, level), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				s, conn := r.member(f, "p-trade")
				s.Level.Store(level)
				if got, err := r.say(s, protocol.AppendTxAck(nil, f, 6, rawHeader(t, nil), 1, "")); err != nil || len(got) != 0 {
					t.Fatalf("%q, %v before it is durable", got, err)
				}
				b := r.lane.batches[0]
				item := c.item
				item.Opaque, item.Kind, item.ID = b.Items[0].Opaque, kite.KindCommit, id
				b.Items[0] = item
				r.Durable(r.lane.batches)
				var got []string
				for _, raw := range conn.writes {
					got = append(got, words(t, f, raw)...)
				}
				if level == 0 {
					expect(t, got)
				} else {
					expect(t, got, c.want)
				}
			})
		}
	}
	r := newRig(t)
	s, _ := r.member(f, "p-trade")
	s.Level.Store(1)
	r.lane.refuse = kite.Busy
	got, _ := r.say(s, protocol.AppendTxAck(nil, f, 6, rawHeader(t, nil), 2, ""))
	expect(t, got, `txReceipt 6 `+idLower+` busy: unknown by "" at 0`)
	if _, _ = r.say(s, protocol.AppendTxAck(nil, f, 6, rawHeader(t, nil), 0, "")); !slices.Equal(r.watcher.answered, []string{idLower + " " + s.Conn.RemoteAddr()}) {
		t.Errorf("answers that decide nothing: %v", r.watcher.answered)
	}
}

// TestOneRead hands over the whole of a read at once, in its order.
func TestOneRead(t *testing.T) {
	t.Parallel()
	f := protocol.FramingG
	r := newRig(t)
	s, _ := r.member(f, "p-trade")
	got, err := r.say(s,
		publish(f, 10, header(func(h *protocol.Header) { h.Commit = false })),
		protocol.AppendTxAck(nil, f, 0, rawHeader(t, nil), 1, ""),
		protocol.AppendHeartbeat(nil, f, 11, 5),
		publish(f, 12, header(func(h *protocol.Header) { h.Topic = "none" })),
		publish(f, 13, header(func(h *protocol.Header) { h.MessageID = idMixed })),
		deliverAck(t, f, 0x80020001, true, "fine"), deliverAck(t, f, 0x80020002, false, strings.Repeat("no", 300)))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, got, "heartbeat 11 5", "storeAck 12 "+idLower+" false UnSupport Topic Message!")
	if len(r.lane.batches) != 1 {
		t.Fatalf("%d batches, want one", len(r.lane.batches))
	}
	var kinds []kite.Kind
	for _, item := range r.items() {
		kinds = append(kinds, item.Kind)
	}
	if want := []kite.Kind{kite.KindPrepared, kite.KindCommit, kite.KindMessage}; !slices.Equal(kinds, want) {
		t.Errorf("items %v, want %v", kinds, want)
	}
	if want := []string{"joined p-trade", "acked p-trade 2"}; !slices.Equal(r.settler.told, want) {
		t.Errorf("told %q, want %q", r.settler.told, want)
	}
	want := []kite.Ack{
		{Member: s, Opaque: 0x80020001, OK: true},
		{Member: s, Opaque: 0x80020002, Feedback: strings.Repeat("no", maxFeedback/2)},
	}
	if !slices.Equal(r.settler.acks, want) {
		t.Errorf("acks %+v", r.settler.acks)
	}
}

func deliverAck(t *testing.T, f protocol.Framing, opaque uint32, ok bool, feedback string) []byte {
	t.Helper()
	var h protocol.HeaderView
	if err := h.Decode(bytes.Clone(rawHeader(t, nil))); err != nil {
		t.Fatal(err)
	}
	return protocol.AppendDeliverAck(nil, f, opaque, &h, ok, feedback)
}

// TestTopics changes what is served while the broker runs.
func TestTopics(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s, _ := r.member(protocol.FramingG, "p-trade")
	r.SetTopics([]string{"fee"})
	got, _ := r.say(s, publish(protocol.FramingG, 1, header(nil)))
	expect(t, got, "storeAck 1 "+idLower+" false UnSupport Topic Message!")
	r.SetTopics([]string{"fee", "trade"})
	got, _ = r.say(s, publish(protocol.FramingG, 1, header(nil)))
	expect(t, got)
}
