package interop

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
)

// other is the framing of the clients next door.
func (f framing) other() framing {
	if f == framingG {
		return framingL
	}
	return framingG
}

// metaFrame is a whole ConnMeta of the group.
func metaFrame(t *testing.T, f framing, group string) []byte {
	t.Helper()
	p := &peer{t: t, framing: f}
	return p.encode(cmdConnMeta, p.opaque(), vectorMessage(t, "59_php_connmeta").with(1, group))
}

// reqDetection opens connections in every way: each is answered in its kind, or closed.
func reqDetection(t *testing.T, f framing) {
	b := start(t, nil)
	for _, step := range []int{1, 3, 1 << 20} { // bytes at a time
		p := b.dial(t, f)
		raw := append(metaFrame(t, f, "s-a"), p.encode(cmdHeartbeat, 77, message{}.with(1, 9))...)
		for chunk := range slices.Chunk(raw, step) {
			p.write(chunk)
		}
		if fr := p.next(); fr.cmd != cmdConnAuth {
			t.Fatalf("steps of %d: %#x", step, fr.cmd)
		}
		if fr := p.next(); fr.cmd != cmdHeartbeat || fr.opaque != 77 {
			t.Fatalf("steps of %d: %#x %d", step, fr.cmd, fr.opaque)
		}
	}
	// The first frame decides: a later one may look like another framing (golden frame 57).
	p := b.connect(t, f, "s-a")
	p.send(cmdHeartbeat, 0x80000003, message{}.with(1, 1))
	if fr := p.answer(0x80000003); fr.cmd != cmdHeartbeat {
		t.Errorf("%#x", fr.cmd)
	}
	meta := metaFrame(t, f, "s-a")
	closed := map[string][]byte{
		"noise":                    bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef}, 16),
		"HTTP":                     []byte("GET / HTTP/1.1\r\nHost: broker\r\n\r\n"),
		"framing C":                append([]byte{0, 0, 0, 1, 2, 0, 0, 0, 18}, append(vectorMessage(t, "59_php_connmeta").encode(), '\r', '\n')...),
		"an unknown first command": framingG.encode(frame{opaque: 1, cmd: 0x7f}),
		"lengths that disagree":    append([]byte{0, 0, 0, 99}, framingG.encode(frame{cmd: cmdConnMeta, payload: make([]byte, 8)})...),
	}
	for name, raw := range closed {
		p := b.dial(t, f)
		p.write(raw)
		if said := p.gone(); len(said) > 0 {
			t.Errorf("%s was answered %v", name, said)
		}
	}
	p = b.dial(t, f)
	p.write(meta[:len(meta)-1]) // half a frame is no reason to close
	p.quiet(200 * time.Millisecond)
	p.write(meta[len(meta)-1:])
	if fr := p.next(); fr.cmd != cmdConnAuth {
		t.Errorf("%#x", fr.cmd)
	}
}

func reqOpaqueZero(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.Transaction.First = 200 * time.Millisecond })
	p, c := b.dial(t, f), b.connect(t, f, "s-a")
	p.raw(p.encode(cmdConnMeta, 0, vectorMessage(t, "59_php_connmeta").with(1, "p-golden")),
		map[framing]string{framingG: "03_connauthack_ok", framingL: "51_java_connauthack_ok"}[f], 0)
	for _, test := range []struct {
		cmd     byte
		message message
	}{
		{cmdHeartbeat, message{}.with(1, 5)},
		{cmdBytes, newMessage(t, f, cmdBytes)},
		{cmdString, newMessage(t, f, cmdString)},
		{cmdBytes, newMessage(t, f, cmdBytes).head(headTopic, "none")},
		{cmdBytes, newMessage(t, f, cmdBytes).head(headFly, true)},
		{cmdBytes, newMessage(t, f, cmdBytes).head(headCommit, false)},
	} {
		p.send(test.cmd, 0, test.message)
		if fr := p.next(); fr.opaque != 0 {
			t.Errorf("command %#x with opaque 0 is answered with %d", test.cmd, fr.opaque)
		}
	}
	if fr := p.next(); fr.cmd != cmdTxAck || fr.opaque == 0 {
		t.Errorf("check %#x with opaque %d", fr.cmd, fr.opaque)
	}
	for range 3 {
		c.ack(c.take(), true) // take looks at the opaque
	}
}

// reqOwnOpaques looks at many deliveries and checks, and at publishes with the same numbers meanwhile.
func reqOwnOpaques(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("p-both")
	b := d.start(func(c *conf.Config) { c.Transaction.First = 200 * time.Millisecond })
	p := b.connect(t, f, "p-both") // publishes and consumes on one connection, as clients do
	seen := map[uint32]bool{}
	for range 100 {
		id := p.mustPublish(func(m message) message { return m.head(headGroup, "p-both") })
		got := p.take()
		if got.id() != id || seen[got.opaque] {
			t.Fatalf("%v, want a new opaque and message %s", got, id)
		}
		seen[got.opaque] = true
		// A request that happens to have the delivery's number is answered, and is not the delivery's answer.
		p.send(cmdHeartbeat, got.opaque, message{}.with(1, 1))
		if fr := p.next(); fr.cmd != cmdHeartbeat || fr.opaque != got.opaque {
			t.Fatalf("%#x", fr.cmd)
		}
		p.ack(got, true)
	}
	asGroup := func(m message) message { return m.head(headGroup, "p-both") }
	open := []message{p.prepare(asGroup), p.prepare(asGroup)}
	asked := map[string]bool{}
	for range open {
		fr := p.next()
		if fr.cmd != cmdTxAck || fr.opaque < 1<<31 || seen[fr.opaque] {
			t.Errorf("check %#x with opaque %#x", fr.cmd, fr.opaque)
		}
		seen[fr.opaque] = true
		asked[p.parse(fr).id()] = true
		p.reply(fr, 2, "")
	}
	if !asked[open[0].id()] || !asked[open[1].id()] {
		t.Errorf("asked about %v", asked)
	}
}

// reqKeepOpen does everything that is wrong and can be lived with.
func reqKeepOpen(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.Delivery.AckTimeout = 150 * time.Millisecond })
	p := b.connect(t, f, "s-a")
	for _, raw := range [][]byte{
		f.encode(frame{opaque: 4, cmd: 0x7f, payload: []byte{1, 2, 3}}),                                        // unknown
		f.encode(frame{opaque: 5, cmd: 0x7f}),                                                                  // and empty
		f.encode(frame{opaque: 6, cmd: cmdConnMeta, payload: vectorMessage(t, "01_connmeta_go").encode()[:9]}), // lacks a field
		f.encode(frame{opaque: 7, cmd: cmdBytes, payload: []byte{0xff, 0xff}}),                                 // does not parse
		f.encode(frame{opaque: 8, cmd: cmdDeliverAck}),
		f.encode(frame{opaque: 9, cmd: cmdTxAck}),
		f.encode(frame{opaque: 10, cmd: cmdStoreAck, payload: vectorMessage(t, "20_storeack_ok").encode()}),     // the broker's own
		f.encode(frame{opaque: 11, cmd: cmdDeliverAck, payload: vectorMessage(t, "31_deliverack_ok").encode()}), // of nothing
		f.encode(frame{opaque: 12, cmd: cmdTxAck, payload: vectorMessage(t, "44_txack_client_commit").encode()}),
		f.encode(frame{opaque: 13, cmd: cmdHeartbeat, version: 2, payload: message{}.with(1, 3).encode()}), // answered
		f.encode(frame{opaque: 14, cmd: cmdHeartbeat, payload: message{}.with(1, -1).encode()}),
	} {
		p.write(raw)
	}
	p.answer(13)
	p.answer(14)
	p.quiet(100 * time.Millisecond)
	for _, bad := range []message{newMessage(t, f, cmdBytes).head(headTopic, "none"), newMessage(t, f, cmdBytes).head(headID, "1")} {
		if ok, _ := p.publish(cmdBytes, bad); ok {
			t.Error("answered true")
		}
	}
	id := p.mustPublish(nil)
	for range 3 { // nobody answers
		if got := p.take(); got.id() != id {
			t.Fatalf("%v", got)
		}
	}
	p.alive()
}

// count takes deliveries, without an answer, until none comes for the time.
func (p *peer) count(quiet time.Duration) (all []delivery) {
	p.t.Helper()
	for {
		fr, err := p.tryRead(quiet)
		if err != nil {
			return all
		}
		if d := (delivery{fr, p.parse(fr)}); d.isMessage() {
			all = append(all, d)
		}
	}
}

// reqInFlightCap never answers, over many timeouts. Go clients stop reading at 100.
func reqInFlightCap(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.Delivery.AckTimeout = 300 * time.Millisecond })
	p, c := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a")
	for range 200 {
		p.mustPublish(nil)
	}
	if n := len(c.count(2 * time.Second)); n < 32 || n > 48 {
		t.Errorf("%d deliveries are unanswered, want 32 to 48", n)
	}
	c.alive()
}

// reqAckByOpaque answers with all but the opaque wrong, and with the right opaque on another connection.
func reqAckByOpaque(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	d.fanout("s-b")
	b := d.start(func(c *conf.Config) { c.Delivery.AckTimeout = time.Second })
	p, a, stranger := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a"), b.connect(t, f, "s-b")
	id := p.mustPublish(nil)
	got := a.take()
	stranger.consume(id)
	stranger.send(cmdDeliverAck, got.opaque, stranger.ackMessage(got, true)) // means nothing
	again := a.take()
	if again.id() != id {
		t.Fatalf("%v, want message %s again", again, id)
	}
	a.send(cmdDeliverAck, again.opaque, a.ackMessage(again, true).with(1, newID()).with(2, "x").with(3, "y").with(4, "nobody"))
	a.quiet(1500 * time.Millisecond)
}

// reqRequiredFields lets the broker say everything that it can say: examine looks at each frame.
func reqRequiredFields(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.Transaction.First = 200 * time.Millisecond })
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	p.alive()
	said := map[byte]bool{cmdConnAuth: true, cmdHeartbeat: true}
	p.publish(cmdBytes, newMessage(t, f, cmdBytes).head(headTopic, "none"))
	p.publish(cmdBytes, newMessage(t, f, cmdBytes))
	p.publish(cmdString, newMessage(t, f, cmdString).with(body, ""))
	said[cmdStoreAck] = true
	for range 2 {
		got := c.take()
		said[got.cmd] = true
		c.ack(got, true)
	}
	p.check(p.prepare(func(m message) message { return m.head(headProperties, nil).head(headCreated, nil) }))
	said[cmdTxAck] = true
	stranger := b.dial(t, f)
	stranger.send(cmdBytes, 1, newMessage(t, f, cmdBytes))
	if refused := stranger.gone(); len(refused) != 1 || refused[0].cmd != cmdConnAuth {
		t.Errorf("refused by %v", refused)
	}
	if len(said) != 6 {
		t.Errorf("commands %v", said)
	}
}

func reqBadLength(t *testing.T, f framing) {
	b := start(t, nil)
	other := b.connect(t, f.other(), "s-b")
	for _, length := range []uint32{0xffffffff, 0x80000000, 2<<20 + 1, 0x7fffffff} {
		p := b.connect(t, f, "s-a")
		prefix := 0
		raw := f.encode(frame{opaque: 3, cmd: cmdBytes})
		if f == framingL {
			prefix = 4
			copy(raw, be32(length+headSize))
		}
		copy(raw[prefix+15:], be32(length))
		p.write(raw)
		if said := p.gone(); len(said) > 0 {
			t.Errorf("length %d was answered %v", int32(length), said)
		}
	}
	other.alive()
	if f == framingG {
		p := b.connect(t, f, "s-a")
		p.write(vector(t, "90_header_too_large"))
		p.gone()
	}
}

func be32(n uint32) []byte { return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)} }

// reqLargest publishes messages at the limit, as they will be delivered, and over it.
func reqLargest(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	p, c := b.connect(t, framingG, "p-golden"), b.connect(t, f, "s-a")
	limit := maxPayload
	if f == framingL {
		limit = maxFrameL - 4 - headSize
	}
	// of is a message that normalising leaves as long as it is.
	of := func(size int) message {
		m := newMessage(t, framingG, cmdBytes).head(headExpires, time.Now().Unix()+3600).head(headCreated, time.Now().Unix())
		m = m.with(body, make([]byte, size-200))
		return m.with(body, make([]byte, 2*size-200-len(m.encode())))
	}
	fits, over := of(limit-12), of(limit+1)
	if len(fits.encode()) != limit-12 || len(over.encode()) != limit+1 {
		t.Fatalf("messages of %d and %d bytes, want %d and %d", len(fits.encode()), len(over.encode()), limit-12, limit+1)
	}
	if ok, feedback := p.publish(cmdBytes, fits); !ok {
		t.Fatalf("a message of %d bytes is answered %s", limit-12, feedback)
	}
	c.consume(fits.id())
	// One that would be larger than the limit by the time it is delivered is refused, while it can be.
	if f == framingG {
		if ok, _ := p.publish(cmdBytes, of(limit-5)); ok {
			t.Errorf("a message of %d bytes, which may grow by 12, was taken", limit-5)
		}
	}
	if f == framingL {
		if ok, feedback := p.publish(cmdBytes, over); !ok { // for Go consumers it would be good
			t.Errorf("a message for framing G was answered %s", feedback)
		}
	}
	small := p.mustPublish(nil)
	for { // tryRead refuses what clients of this framing could not read
		got := c.take()
		c.ack(got, true)
		if got.id() == small {
			break
		}
		if got.id() == over.id() {
			t.Error("a message over the limit was delivered")
		}
	}
}

// reqRepliesInOrder is for PHP, which takes the next frame as the answer whatever it is. It only publishes,
// in a group that is bound to nothing.
func reqRepliesInOrder(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	p := b.connect(t, f, "p-php")
	for n := range 50 {
		m := newMessage(t, f, cmdString)
		if n%5 == 0 {
			m = m.head(headTopic, "none")
		}
		opaque := p.opaque()
		p.send(cmdString, opaque, m)
		if fr := p.next(); fr.cmd != cmdStoreAck || p.parse(fr).text(1) != m.id() || fr.opaque != opaque {
			t.Fatalf("publish %d is answered %#x %v", n, fr.cmd, p.parse(fr))
		}
	}
}

// reqFramingError breaks the stream in the middle of a connection that has work under way.
func reqFramingError(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	broken, p := b.connect(t, f, "s-a"), b.connect(t, f.other(), "p-golden")
	id := p.mustPublish(nil)
	if got := broken.take(); got.id() != id {
		t.Fatalf("%v", got)
	}
	raw := broken.encode(cmdHeartbeat, 5, message{}.with(1, 1)) // answered: it came before the break
	raw = append(raw, bytes.Repeat([]byte{0xee}, 64)...)
	broken.write(raw)
	if said := broken.gone(); len(said) != 1 || said[0].cmd != cmdHeartbeat {
		t.Errorf("said %v before it closed", said)
	}
	p.alive()
	b.connect(t, f, "s-a").consume(id) // what was lost with the connection comes again
}

func reqUnknownFields(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(func(c *conf.Config) { c.Transaction.First = 200 * time.Millisecond })
	p, c := b.connect(t, f, "p-golden"), b.connect(t, f, "s-a")
	strange := func(m message) message {
		return m.head(12, "of tomorrow").head(99, 1<<40).head(1000, "文").with(7, "beside the body")
	}
	expect := func(what string, got message) {
		t.Helper()
		head := got.sub(header)
		if head.text(12) != "of tomorrow" || head.number(99) != 1<<40 || head.text(1000) != "文" {
			t.Errorf("%s lost fields: %v", what, head)
		}
	}
	p.mustPublish(strange)
	got := c.take()
	expect("delivery", got.message)
	if got.text(7) != "beside the body" {
		t.Errorf("delivery lost a field: %v", got)
	}
	c.ack(got, true)
	m := p.prepare(strange)
	check := p.check(m)
	expect("check", p.parse(check))
	p.reply(check, 1, "")
	got = c.take()
	expect("delivery of a transaction", got.message)
}

// reqConnMetaSoon shakes hands while others publish as fast as they can.
func reqConnMetaSoon(t *testing.T, f framing) {
	d := newDirectory(t)
	d.fanout("s-a")
	b := d.start(nil)
	stop := b.load(t)
	var slowest time.Duration
	for n := range 30 {
		before := time.Now()
		b.connect(t, f, fmt.Sprintf("s-%d", n))
		slowest = max(slowest, time.Since(before))
	}
	stop()
	t.Logf("slowest handshake under load: %v", slowest)
	if slowest > 2*time.Second {
		t.Errorf("a handshake took %v; Java gives up for ever after 3 s", slowest)
	}
}

// load publishes on two connections, 50 messages at a time, until stop is called or the test ends.
func (b *broker) load(t *testing.T) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var wait sync.WaitGroup
	for range 2 {
		p := b.connect(t, framingG, "p-load")
		wait.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				var raw []byte
				for range 50 {
					raw = append(raw, p.encode(cmdBytes, p.opaque(), newMessage(t, framingG, cmdBytes))...)
				}
				if _, err := p.conn.Write(raw); err != nil {
					return
				}
				for range 50 {
					if _, err := p.tryRead(patience); err != nil {
						t.Errorf("load: %v", err)
						return
					}
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		close(done)
		wait.Wait()
	})
	t.Cleanup(stop)
	return stop
}
