package transport

import (
	"testing"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/protocol"
)

// TestStats counts what goes in and out, by replies and by what others write, to the byte.
func TestStats(t *testing.T) {
	t.Parallel()
	h := newFake()
	tr := start(t, Options{}, h)
	if got := tr.Stats(); got != (Stats{}) {
		t.Errorf("at the start: %+v", got)
	}
	c := dial(t, tr)
	s := <-h.opened
	in, out := 0, 0
	for n := range 3 {
		ping := protocol.AppendHeartbeat(nil, protocol.FramingG, uint32(n+1), 1)
		if _, err := c.Write(ping); err != nil {
			t.Fatal(err)
		}
		read(t, c, protocol.FramingG)
		in, out = in+len(ping), out+len(ping) // the pong is as long
	}
	b := session.NewBuffer()
	b.B = protocol.AppendHeartbeat(b.B, protocol.FramingG, 9, 9)
	out += len(b.B)
	s.Conn.Write(b)
	read(t, c, protocol.FramingG)
	want := Stats{Reads: 3, ReadBytes: int64(in), Writes: 4, WriteBytes: int64(out), Connections: 1}
	tick, late := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for tr.Stats() != want { // a write is counted when it is done: the client may be faster
		select {
		case <-late:
			t.Fatalf("%+v, want %+v", tr.Stats(), want)
		case <-tick.C:
		}
	}
}
