package deliver

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"

	"github.com/kiteq/kiteq/internal/kite"
)

// Reader finds committed messages.
type Reader interface {
	Read(stream string, from kite.Seq, visit func(*kite.Record) bool) error
	Bounds(stream string) (first, next kite.Seq)
}

// Submitter takes what must be journaled: progress and dead letters.
type Submitter interface {
	Submit(b *kite.Batch) error
}

// Courier frames deliveries for the members of groups. Each shard has its own.
type Courier interface {
	// Send frames the message for some member of the group that has credit, and takes one credit of
	// it; nil means that nobody can take it now. The bytes leave at the next Flush. An error of code
	// kite.TooLarge says that the group's clients cannot take a message of this size at all.
	Send(group string, opaque uint32, r *kite.Record) (kite.Member, error)
	// Online tells whether the group has a member at all.
	Online(group string) bool
	Flush()
	Addresser
}

// Addresser is the part of a Courier that ordered and broadcast groups need: their messages are for
// certain members.
type Addresser interface {
	// Key returns the hash of a property of the message, the same in every process; ok is false when it
	// has none of this name.
	Key(r *kite.Record, property string) (key uint64, ok bool)
	// Choose returns the member that the key belongs to: the same one as long as the members are the
	// same. It is nil when nobody can be chosen now. It takes no credit.
	Choose(group string, key uint64) kite.Member
	// SendTo is Send to this member; ok is false when it cannot take the message now. An error of code
	// kite.TooLarge says that it never can.
	SendTo(m kite.Member, opaque uint32, r *kite.Record) (ok bool, err error)
	// Free tells whether a member of the group has credit and takes bytes.
	Free(group string) bool
	// Members returns who is in the group.
	Members(group string) []kite.Member
}

// Standings tells where a group stood on a topic when the journal was opened, or nil.
type Standings func(topic, group string) *kite.Standing

// Dispatcher runs the flows. All flows of a group live on one shard, so that a group's members, their
// credit and their unanswered deliveries have one owner.
type Dispatcher struct {
	shards  []*shard
	reader  Reader
	seed    maphash.Seed
	log     *slog.Logger
	stopped chan struct{} // closed at the end of Run
	grown   []growth      // scratch of Durable, empty
}

// New returns a dispatcher that delivers nothing before Run. heads gives each topic's newest Seq.
func New(o Options, reader Reader, lane Submitter, courier func() Courier, standings Standings, heads map[string]kite.Seq, log *slog.Logger) *Dispatcher {
	d := &Dispatcher{reader: reader, seed: maphash.MakeSeed(), log: log.With("component", "deliver"), stopped: make(chan struct{})}
	for range o.Shards {
		d.shards = append(d.shards, newShard(o, reader, lane, courier(), standings, heads, d.log))
	}
	for stream := range heads {
		if topic, group, dead := kite.CutDead(stream); dead {
			d.shard(group).lettersOf(flowKey{topic, group})
		}
	}
	return d
}

// Run delivers until ctx ends, then records the progress made. It is called once.
func (d *Dispatcher) Run(ctx context.Context) error {
	defer close(d.stopped)
	var wait sync.WaitGroup
	for _, s := range d.shards {
		wait.Go(func() { s.run(ctx) })
	}
	wait.Wait()
	return nil
}

func (d *Dispatcher) shard(group string) *shard {
	return d.shards[maphash.String(d.seed, group)%uint64(len(d.shards))]
}

// Routes replaces which groups are bound to what. A group that is no longer bound gets nothing more;
// its place is kept.
func (d *Dispatcher) Routes(routes []kite.Route) {
	parts := make(map[*shard][]kite.Route, len(d.shards))
	for _, r := range routes {
		s := d.shard(r.Group)
		parts[s] = append(parts[s], r)
	}
	for _, s := range d.shards {
		s.bind(parts[s])
	}
}

// Durable is the lane's news: topics have grown, dead letters and progress are recorded, operators have ordered
// something.
func (d *Dispatcher) Durable(batches []*kite.Batch) {
	var grown []growth
	for _, b := range batches {
		if s, ok := b.Owner.(*shard); ok {
			s.journaled(b)
			continue
		}
		for i := range b.Items {
			item := &b.Items[i]
			if item.Kind == kite.KindOrder {
				d.ordered(item)
				continue
			}
			if item.Verdict != kite.OK || item.Repeat || item.Seq == 0 || item.Kind == kite.KindDelayed {
				continue
			}
			if n := len(grown); n > 0 && grown[n-1].topic == item.Topic {
				grown[n-1].head = item.Seq // of one topic they come in order
				continue
			}
			if grown == nil {
				grown = d.grown
			}
			grown = append(grown, growth{item.Topic, item.Seq})
		}
	}
	if len(grown) > 0 {
		d.tell(grown)
		clear(grown)
		d.grown = grown[:0]
	}
}

// Grown says that topics have messages up to these.
func (d *Dispatcher) Grown(heads map[string]kite.Seq) {
	var grown []growth
	for topic, head := range heads {
		grown = append(grown, growth{topic, head})
	}
	d.tell(grown)
}

func (d *Dispatcher) tell(grown []growth) {
	for _, s := range d.shards {
		s.grown(grown)
	}
}

// Acked settles or re-arms deliveries to members of the group. The acks are copied.
func (d *Dispatcher) Acked(group string, acks []kite.Ack) {
	d.shard(group).post(func(e *events) { e.acks = append(e.acks, acks...) })
}

// Joined says that the group has a new member, or one that takes bytes again.
func (d *Dispatcher) Joined(group string) {
	d.shard(group).post(func(e *events) { e.joined = append(e.joined, group) })
}

// Left says that the member of the group is gone: what it had not answered is sent again.
func (d *Dispatcher) Left(group string, m kite.Member) {
	d.shard(group).post(func(e *events) { e.left, e.emptier = append(e.left, m), append(e.emptier, group) })
}

// Fly delivers messages that are not journaled, to whoever is there. The items and what they point to now
// belong to the dispatcher. Of more than 4096 that wait for a shard or a flow the newest are dropped.
func (d *Dispatcher) Fly(items []kite.Item) {
	for _, s := range d.shards {
		s.flown(items)
	}
}
