package original

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/client/clienttest"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// Options say which of the original's configurations it is.
type Options struct {
	// Topics are those it serves. Empty: every topic.
	Topics []string
	// Bindings tells who is bound to the topic, by group; clienttest.Registry.Bindings fits. nil: nobody.
	Bindings func(topic string) map[string][]kite.Binding
	// Duplicates are refused, as by its mysql and file stores; its memory store takes them again.
	RefuseDuplicates bool
	// CheckAtOnce asks about a prepared message before its StoreAck, as a recover loop that comes just
	// then does.
	CheckAtOnce bool
}

// Broker is the scripted broker. Its methods are safe for concurrent use.
type Broker struct {
	// What it received, oldest first.
	Connects  clienttest.Queue[string] // groups of ConnMetas
	Published clienttest.Queue[Published]
	Acks      clienttest.Queue[Ack]
	Verdicts  clienttest.Queue[Verdict]
	Beats     clienttest.Queue[uint32] // opaques
	// Faults is what no client may do, in words. A test of a client ends with it empty.
	Faults clienttest.Queue[string]

	options  Options
	listener net.Listener
	serving  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	conns    []*session            // every open one
	members  map[string][]*session // by group, a connection as often as it said ConnMeta
	opaque   uint32                // the last one that was given
	table    map[uint32]*attempt   // what waits for an answer; nil: taken by a reply
	messages []*message            // stored, oldest first
	acksLost int                   // how many StoreAcks are still to be lost
	stray    int
}

// Published is a message that was received.
type Published struct {
	Opaque  uint32
	Header  *wire.Header
	Body    []byte
	Payload []byte // all of it, as received
	Text    bool
}

// Ack is a DeliverAck. Found is false when the delivery it answers was no longer in the table.
type Ack struct {
	Opaque uint32
	Ack    *wire.DeliverAck
	Found  bool
}

// Verdict is a TxACKPacket: a verdict of the client's own, or its answer to a check.
type Verdict struct {
	Opaque   uint32
	ID       string
	Status   int32
	Feedback string
	Checked  bool // it answers a check
}

// message is one that is stored.
type message struct {
	command   byte
	header    *wire.Header
	body      []byte
	committed bool
	done      map[string]bool // groups that have it
}

// attempt is a delivery, or a check when group is empty, that waits for its answer.
type attempt struct {
	of    *message
	group string
	tries int
}

// Listen returns a broker on a free port of the loopback interface.
func Listen(o Options) (*Broker, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Broker{options: o, listener: l, members: map[string][]*session{}, table: map[uint32]*attempt{}}
	b.serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			b.serve(nc)
		}
	})
	return b, nil
}

// Addr returns the address that it listens on.
func (b *Broker) Addr() string { return b.listener.Addr().String() }

// Close closes the listener and every connection and waits for the broker's goroutines.
func (b *Broker) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.listener.Close()
	b.Drop()
	b.serving.Wait()
}

// Drop closes every connection. What was delivered on them times out at the next Recover.
func (b *Broker) Drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.conns {
		s.nc.Close()
	}
}

// LoseAcks makes the next n StoreAcks get lost: the messages are stored.
func (b *Broker) LoseAcks(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acksLost = n
}

// CountFrom sets the opaque of the broker's next request.
func (b *Broker) CountFrom(opaque uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opaque = opaque - 1
}

// Stored returns how many messages are stored: prepared, or not yet taken by all their groups.
func (b *Broker) Stored() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.messages)
}

// Stray returns how many answers had no request in the table, be it that its place was taken or that it
// timed out.
func (b *Broker) Stray() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stray
}

// Frame sends any frame to a connection of the group, without an entry in the table.
func (b *Broker) Frame(group string, opaque uint32, command byte, payload []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.memberLocked(group)
	if s == nil {
		return fmt.Errorf("original: nobody of group %s is connected", group)
	}
	s.write(encode(opaque, command, payload))
	return nil
}

// Recover is one turn of the recover loop: it asks about prepared messages, and delivers again what was
// not taken.
func (b *Broker) Recover() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.table)
	for _, m := range slices.Clone(b.messages) {
		if m.committed {
			b.deliverLocked(m)
		} else {
			b.checkLocked(m)
		}
	}
}

// memberLocked returns a random connection of the group, or nil.
func (b *Broker) memberLocked(group string) *session {
	all := b.members[group]
	if len(all) == 0 {
		return nil
	}
	return all[rand.IntN(len(all))]
}

// requestLocked sends a request under the next opaque.
func (b *Broker) requestLocked(s *session, command byte, payload []byte, a *attempt) {
	b.opaque++
	b.table[b.opaque] = a
	s.write(encode(b.opaque, command, payload))
}

// replyLocked sends a reply. It goes through the sending helper of requests: an opaque of 0 counts as
// not set, and any other takes its place in the table.
func (b *Broker) replyLocked(s *session, opaque uint32, command byte, m proto.Message) {
	if opaque == 0 {
		b.opaque++
		opaque = b.opaque
	}
	b.table[opaque] = nil
	s.write(encode(opaque, command, marshal(m)))
}

// answeredLocked takes the request with the opaque out of the table.
func (b *Broker) answeredLocked(opaque uint32) *attempt {
	a := b.table[opaque]
	delete(b.table, opaque)
	if a == nil {
		b.stray++
	}
	return a
}
