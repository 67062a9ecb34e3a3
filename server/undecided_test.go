package server

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// What undecided transactions may cost.
const (
	undecidedMany  = 100_000
	undecidedBound = kite.ByteSize(60 << 20)
)

// TestUndecided keeps a hundred thousand transactions undecided: what they add to the broker's memory, that
// their producer is asked about each, and that nobody is asked about one that is decided. Transactions
// that are decided at once go on beside them.
func TestUndecided(t *testing.T) {
	many := undecidedMany
	if raceDetector {
		many = 10_000 // and their memory is not looked at
	}
	c := testConfig()
	c.Store = "mmap://" + t.TempDir() + "?sync=os"
	c.Transaction.First, c.Transaction.Longest = 2*time.Second, time.Hour
	s, _ := start(t, c, Control{})
	p := &producer{peer: connect(t, s, "p-undecided"), server: s, asked: map[string]bool{}, decided: map[string]bool{}}
	before := residentMemory(t)
	p.prepare(0, many)
	p.decide(kite.KindCommit, many, p.prepare(many, many/10)) // in time: nobody is asked
	after := residentMemory(t)
	t.Logf("%d undecided: memory before %v, after %v", many, before, after)
	if why := after.over(undecidedBound, before); why != "" && !raceDetector {
		t.Error(why)
	}
	p.read(many, 30*time.Second)
	if more := residentMemory(t).over(undecidedBound, before); more != "" && !raceDetector {
		t.Errorf("once all are asked about: %s", more)
	}
	p.decide(kite.KindCommit, 0, many/2)
	p.decide(kite.KindRollback, many/2, many-many/2)
	p.read(0, 5*time.Second) // their next checks would come after 4 s, give or take a fifth
	if p.unexpected > 0 || len(p.asked) < many {
		t.Errorf("%d transactions were asked about, want %d; %d checks came after the decision", len(p.asked), many, p.unexpected)
	}
}

// producer has transactions, and counts who asks about them.
type producer struct {
	*peer
	server     *Server
	asked      map[string]bool
	decided    map[string]bool
	blind      bool // it counts checks and does not look into them
	checks     int
	unexpected int // checks about what was decided and told
}

// prepare prepares n transactions from the first on, as the handler does, and returns n.
func (p *producer) prepare(first, n int) int {
	p.t.Helper()
	p.submit(first, n, func(i int, r *kite.Record) {
		raw := protocol.AppendMessage(nil, protocol.FramingG, 1, protocol.CmdBytesMessage, &protocol.Header{
			MessageID: r.ID.String(), Topic: "trade", MessageType: "pay", GroupID: "p-undecided", DeliverLimit: 100,
		}, []byte("body of the message"))
		frame, _, err := protocol.FramingG.Next(raw)
		if err != nil {
			p.t.Fatal(err)
		}
		r.Kind, r.Command, r.Limit, r.ExpiresMs = kite.KindPrepared, uint8(frame.Command), 100, time.Now().Add(time.Hour).UnixMilli()
		r.Topic, r.Type, r.Group, r.Body = "trade", []byte("pay"), []byte("p-undecided"), frame.Payload
	})
	return n
}

func (p *producer) decide(kind kite.Kind, first, n int) {
	p.t.Helper()
	p.submit(first, n, func(_ int, r *kite.Record) { r.Kind, r.Body = kind, kite.AppendNote(nil, "somebody", "") })
	p.settle()
	for i := first; i < first+n; i++ {
		p.decided[spread(uint64(i)).String()] = true
	}
}

// submit hands the lane n items, and waits until they are durable.
func (p *producer) submit(first, n int, fill func(int, *kite.Record)) {
	p.t.Helper()
	for from := first; from < first+n; from += fillItems {
		b := &kite.Batch{}
		for i := from; i < min(first+n, from+fillItems); i++ {
			b.Items = append(b.Items, kite.Item{Record: kite.Record{ID: spread(uint64(i))}})
			fill(i, &b.Items[len(b.Items)-1].Record)
		}
		done := make(chan bool, 1)
		b.Release = func(*kite.Batch) { done <- true }
		if err := p.server.lane.Submit(b); err != nil {
			p.t.Fatal(err)
		}
		<-done
		for i := range b.Items {
			if b.Items[i].Verdict != kite.OK || b.Items[i].Repeat {
				p.t.Fatalf("transaction %d: %v, repeat %v", from+i, b.Items[i].Verdict, b.Items[i].Repeat)
			}
		}
	}
}

// settle reads all that was sent before: the broker answers a heartbeat behind it.
func (p *producer) settle() {
	p.t.Helper()
	p.write(protocol.AppendHeartbeat(nil, protocol.FramingG, 1, 1))
	for p.take(p.peer.read()) {
	}
}

// read takes checks until so many were asked about, or the time is over.
func (p *producer) read(until int, within time.Duration) {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(within))
	defer func() { _ = p.conn.SetReadDeadline(time.Time{}) }()
	for len(p.asked) < until || until == 0 {
		f, err := p.peer.receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			p.t.Fatal(err)
		}
		p.take(f)
	}
}

// take counts a check; it returns false for anything else.
func (p *producer) take(f protocol.Frame) bool {
	if f.Command != protocol.CmdTxAck {
		return false
	}
	if p.checks++; p.blind {
		return true
	}
	var check protocol.TxAckView
	if err := check.Decode(f.Payload); err != nil {
		p.t.Fatal(err)
	}
	id := string(check.Header.MessageID)
	p.asked[id] = true
	if p.decided[id] {
		p.unexpected++
	}
	return true
}

// BenchmarkUndecided publishes for as long as the first pause between two checks: without undecided
// transactions, and then while a hundred thousand of them are asked about once, each by a check of its own
// over a connection. At last nothing else is done than to ask about as many. A pass comes once in that pause at
// most, and plain publishing keeps one processor busy, the lane's: pass-cost-% is what the pass takes of that.
// It is processor time, which other work on the machine changes less than the rates. An op is all of it: run
// it with -benchtime=1x.
func BenchmarkUndecided(b *testing.B) {
	first := conf.Default().Transaction.First
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			of := pass(b, 0, first, true)
			b.ReportMetric(of.rate, "msg/s")
			b.ReportMetric(float64(of.spent.Microseconds())/(of.rate*first.Seconds()), "us/msg")
		}
	})
	b.Run("asking", func(b *testing.B) {
		for b.Loop() {
			of := pass(b, undecidedMany, first, true)
			b.ReportMetric(of.rate, "msg/s")
			b.ReportMetric(float64(of.unexpected), "unexpected-checks")
		}
	})
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			of := pass(b, undecidedMany, first/2, false)
			b.ReportMetric(float64(of.spent.Microseconds())/undecidedMany, "us/check")
			b.ReportMetric(100*of.spent.Seconds()/first.Seconds(), "pass-cost-%")
		}
	})
}

// passing is what came of it.
type passing struct {
	rate       float64       // messages a second
	spent      time.Duration // by the processors
	unexpected int
}

// pass has some undecided transactions come due within d, and publishes meanwhile or not.
func pass(b *testing.B, undecided int, d time.Duration, publish bool) (of passing) {
	b.Helper()
	c := testConfig()
	c.Store = "mmap://" + b.TempDir() + "?sync=os"
	c.Transaction.First, c.Transaction.Longest = d/2, time.Hour // once within d, and again after it
	s, log := start(b, c, Control{})
	p := &producer{peer: connect(b, s, "p-undecided"), server: s, asked: map[string]bool{}, decided: map[string]bool{}}
	p.prepare(0, undecided)
	p.decide(kite.KindCommit, undecided, p.prepare(undecided, undecided/10))
	p.blind = !publish // its own work is not the broker's
	counted := make(chan bool)
	began, before := time.Now(), processorTime(b)
	go func() {
		defer close(counted)
		p.read(0, d)
	}()
	const others = 1 << 40 // ids that no transaction has
	fill := newFiller(s.lane)
	for fill.sent = others; publish && time.Since(began) < d; {
		fill.upTo(b, fill.sent+100*fillItems)
	}
	of.rate = float64(fill.sent-others) / time.Since(began).Seconds()
	<-counted
	of.spent, of.unexpected = processorTime(b)-before, p.unexpected
	if p.checks < undecided {
		b.Fatalf("%d checks were sent about %d transactions\n%s", p.checks, undecided, log)
	}
	return of
}
