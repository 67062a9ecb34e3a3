package handler

import (
	"errors"
	"fmt"
	"hash/fnv"
	"testing"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// propertied is a message with properties, as it lies in the journal.
func propertied(t *testing.T, properties map[string]string) *kite.Record {
	t.Helper()
	frame := protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdBytesMessage, &protocol.Header{
		MessageID: idLower, Topic: "trade", MessageType: "pay", GroupID: "p", Commit: true, Properties: properties,
	}, []byte("body"))
	return &kite.Record{Command: 0x11, Body: cut(t, protocol.FramingG, frame)[0].Payload}
}

// TestCourierKey hashes a property, the same way for ever, and without allocation.
func TestCourierKey(t *testing.T) { // not parallel: it counts allocations
	c := NewCourier(newRig(t).directory)
	r := propertied(t, map[string]string{"kiteq-key": "order-17", "other": "x", "empty": ""})
	for property, value := range map[string]string{"kiteq-key": "order-17", "other": "x", "empty": ""} {
		h := fnv.New64a()
		_, _ = h.Write([]byte(value))
		if key, ok := c.Key(r, property); key != h.Sum64() || !ok {
			t.Errorf("%s: %#x, %v; want %#x", property, key, ok, h.Sum64())
		}
	}
	if _, ok := c.Key(r, "none"); ok {
		t.Error("a key of a property that is not there")
	}
	if _, ok := c.Key(propertied(t, nil), "kiteq-key"); ok {
		t.Error("a key without properties")
	}
	if _, ok := c.Key(&kite.Record{Body: []byte("garbage")}, "kiteq-key"); ok {
		t.Error("a key of no message")
	}
	if n := testing.AllocsPerRun(100, func() { c.Key(r, "kiteq-key") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestCourierSendTo sends to one member only, as long as it has credit and takes the size.
func TestCourierSendTo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, conn := r.member(protocol.FramingL, "s-a")
	b, _ := r.member(protocol.FramingG, "s-a")
	c := NewCourier(r.directory)
	for n := range session.DefaultInFlight {
		if ok, err := c.SendTo(a, uint32(n), record(1)); !ok || err != nil {
			t.Fatal(n, ok, err)
		}
	}
	if ok, err := c.SendTo(a, 99, record(1)); ok || err != nil {
		t.Errorf("without credit: %v, %v", ok, err)
	}
	if !c.Free("s-a") {
		t.Error("the other has credit")
	}
	if ok, err := c.SendTo(a, 99, record(protocol.FramingL.MaxPayload()+1)); ok || !errors.Is(err, kite.TooLarge) {
		t.Errorf("too large: %v, %v", ok, err)
	}
	a.Release(false)
	conn.choked = true
	if ok, err := c.SendTo(a, 99, record(1)); ok || err != nil {
		t.Errorf("a choked connection: %v, %v", ok, err)
	}
	conn.choked = false
	if ok, err := c.SendTo(a, 99, record(1)); !ok || err != nil {
		t.Errorf("credit came back: %v, %v", ok, err)
	}
	c.Flush()
	if got := words(t, protocol.FramingL, conn.writes[0]); len(got) != session.DefaultInFlight+1 {
		t.Errorf("%d deliveries", len(got))
	}
	if b.InFlight() != 0 {
		t.Errorf("the other has %d", b.InFlight())
	}
	if all := c.Members("s-a"); fmt.Sprint(all) != fmt.Sprint([]kite.Member{a, b}) {
		t.Errorf("members %v", all)
	}
	if c.Free("s-none") || len(c.Members("s-none")) != 0 || c.Choose("s-none", 1) != nil {
		t.Error("somebody is in a group that nobody is in")
	}
}
