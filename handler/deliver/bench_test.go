package deliver

import (
	"context"
	"log/slog"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// endless is a topic that holds the same message at every Seq.
type endless struct{ head kite.Seq }

func (e endless) Bounds(string) (first, next kite.Seq) { return 1, e.head + 1 }

func (e endless) Read(_ string, from kite.Seq, visit func(*kite.Record) bool) error {
	r := kite.Record{Kind: kite.KindMessage, Topic: "trade", Type: []byte("pay"), Limit: 100, ExpiresMs: 1 << 60}
	for r.Seq = from; r.Seq <= e.head; r.Seq++ {
		if !visit(&r) {
			break
		}
	}
	return nil
}

// obedient is a courier with one member of 32 credits, who answers everything at once.
type obedient struct {
	d    *Dispatcher
	held int
	left int
	acks []kite.Ack
	done chan struct{}
}

func (o *obedient) Release(bool)  { o.held-- }
func (o *obedient) Late()         {}
func (o *obedient) Forgive() bool { return true }

func (o *obedient) Send(_ string, opaque uint32, _ *kite.Record) (kite.Member, error) {
	if o.held == 32 {
		return nil, nil
	}
	o.held++
	o.acks = append(o.acks, kite.Ack{Member: o, Opaque: opaque, OK: true})
	return o, nil
}

func (o *obedient) SendTo(_ kite.Member, opaque uint32, r *kite.Record) (bool, error) {
	m, err := o.Send("", opaque, r)
	return m != nil, err
}

func (o *obedient) Choose(string, uint64) kite.Member { return o }
func (o *obedient) Free(string) bool                  { return o.held < 32 }
func (o *obedient) Members(string) []kite.Member      { return []kite.Member{o} }

// Key gives a thousand keys, in no order.
func (o *obedient) Key(r *kite.Record, _ string) (uint64, bool) {
	return uint64(r.Seq) * 0x9e3779b97f4a7c15 >> 32 % 1000, true
}

func (o *obedient) Online(string) bool { return true }

func (o *obedient) Flush() {
	if len(o.acks) == 0 {
		return
	}
	o.d.Acked("s-pay", o.acks)
	if o.left -= len(o.acks); o.left <= 0 && o.done != nil {
		close(o.done)
		o.done = nil
	}
	o.acks = o.acks[:0]
}

// forgetful is a lane that takes everything.
type forgetful struct{ d *Dispatcher }

func (f *forgetful) Submit(b *kite.Batch) error {
	for i := range b.Items {
		b.Items[i].Verdict = kite.OK
	}
	f.d.Durable([]*kite.Batch{b})
	return nil
}

// BenchmarkDeliver brings a backlog to one member of 32 credits: a message an op, sent and settled,
// without the journal and the wire. Ordered has a thousand keys, of which a few of the 32 that are out are
// met again.
func BenchmarkDeliver(b *testing.B) {
	plain := kite.Direct("s-pay", "trade", "pay")
	keyed := plain
	keyed.Order = kite.OrderByKey
	b.Run("plain", func(b *testing.B) { benchDeliver(b, plain) })
	b.Run("ordered", func(b *testing.B) { benchDeliver(b, keyed) })
}

func benchDeliver(b *testing.B, binding kite.Binding) {
	member, lane := &obedient{left: b.N, done: make(chan struct{})}, &forgetful{}
	head := kite.Seq(b.N)
	d := New(Options{Shards: 1, Watermark: 1 << 30}.WithDefaults(), endless{head}, lane, func() Courier { return member },
		func(string, string) *kite.Standing { return &kite.Standing{} }, map[string]kite.Seq{"trade": head}, slog.New(slog.DiscardHandler))
	member.d, lane.d = d, d
	d.Routes([]kite.Route{{Topic: "trade", Group: "s-pay", Bindings: []kite.Binding{binding}}})
	ctx, cancel := context.WithCancel(b.Context())
	done, ended := member.done, make(chan struct{})
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		defer close(ended)
		_ = d.Run(ctx)
	}()
	<-done
	b.StopTimer()
	cancel()
	<-ended
}
