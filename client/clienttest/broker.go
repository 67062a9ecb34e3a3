package clienttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/kiteq/kiteq/internal/protocol"
)

// Broker is a scripted broker. Its methods are safe for concurrent use.
type Broker struct {
	// What it received, oldest first.
	Connects  Queue[Connect]
	Published Queue[Published]
	Acks      Queue[Ack]
	Verdicts  Queue[Verdict] // those sent, and the answers to checks
	Beats     Queue[uint32]  // opaques of heartbeats, answered or not

	listener net.Listener
	serving  sync.WaitGroup

	mu        sync.Mutex
	sessions  []*session // connected and greeted, oldest first
	opaque    uint32
	onConnect func(Connect) (refusal string)
	onVerdict func(Verdict) *Receipt
	onPublish func(Published) Answer
	mute      bool
	discard   bool
	relay     *relay
	closed    bool
}

// Connect is a handshake.
type Connect struct {
	Group, SecretKey string
	WarmingUpSec     int32
}

// Published is a message that a client published.
type Published struct {
	Opaque          uint32
	ID, Topic, Type string
	Group           string
	Body            []byte
	Text            bool
	Commit, Fly     bool
	DeliverLimit    int32
	ExpiredTime     int64 // as on the wire: Unix seconds, -1 none
	CreateTime      int64 // Unix seconds
	Properties      map[string]string
	Snappy          *bool // of Deliver only
	payload         []byte
	command         protocol.Command
}

// Ack is the answer to a delivery.
type Ack struct {
	Opaque          uint32
	ID, Topic, Type string
	Group           string // as in the message: the publisher's
	OK              bool
	Feedback        string
}

// Verdict is a TxAck: one that was sent, or the answer to the check with the same opaque. Status is 0
// unknown, 1 commit, 2 rollback.
type Verdict struct {
	Opaque    uint32
	ID, Topic string
	Status    int32
	Feedback  string
}

// Answer says what the broker does with a published message.
type Answer struct {
	ok, silent, hangup bool
	feedback           string
}

// Accept confirms the message.
func Accept() Answer { return Answer{ok: true, feedback: protocol.FeedbackStored + "0"} }

// Refuse answers with status false and the text.
func Refuse(feedback string) Answer { return Answer{feedback: feedback} }

// Silence does not answer.
func Silence() Answer { return Answer{silent: true} }

// Hangup closes the connection instead of answering.
func Hangup() Answer { return Answer{hangup: true} }

// New returns a broker without a listener, for Serve and Dialer.
func New() *Broker { return &Broker{opaque: 0x8000_0000} }

// Listen returns a broker on a free port of the loopback interface.
func Listen() (*Broker, error) { return ListenOn("127.0.0.1:0") }

// ListenOn returns a broker on the address, for instance on that of one that was closed.
func ListenOn(addr string) (*Broker, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	b := New()
	b.listener = l
	b.serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			b.Serve(nc)
		}
	})
	return b, nil
}

// Addr returns the address that it listens on, "pipe" when on none.
func (b *Broker) Addr() string {
	if b.listener == nil {
		return "pipe"
	}
	return b.listener.Addr().String()
}

// Dialer returns a dialer, as client.Options has it, of connections in memory: with it a test can
// run in a synctest bubble. The address is ignored.
func (b *Broker) Dialer() func(ctx context.Context, addr string) (net.Conn, error) {
	return func(context.Context, string) (net.Conn, error) {
		b.mu.Lock()
		closed := b.closed
		b.mu.Unlock()
		if closed {
			return nil, errors.New("connection refused")
		}
		near, far := net.Pipe()
		b.Serve(far)
		return near, nil
	}
}

// Serve serves one connection in goroutines of the broker's.
func (b *Broker) Serve(nc net.Conn) {
	s := &session{broker: b, nc: nc, quit: make(chan struct{}), wake: make(chan struct{}, 1)}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		nc.Close()
		return
	}
	b.serving.Go(func() {
		defer b.forget(s)
		s.read()
	})
	b.serving.Go(s.write)
}

// Close closes the listener and every connection and waits for the broker's goroutines.
func (b *Broker) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	if b.listener != nil {
		b.listener.Close()
	}
	b.Drop()
	b.serving.Wait()
}

// Drop closes every connection; clients may connect again.
func (b *Broker) Drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		s.close()
	}
}

// Receipt is the answer to a verdict. Its MessageID need not be set.
type Receipt = protocol.TxReceipt

// OnVerdict makes a broker that gives receipts, to connections opened from now on: f's, or none when that is
// nil. Without it the broker is one of a time before receipts.
func (b *Broker) OnVerdict(f func(Verdict) *Receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onVerdict = f
}

// OnConnect lets f decide on handshakes: a text refuses. nil accepts all.
func (b *Broker) OnConnect(f func(Connect) (refusal string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onConnect = f
}

// OnPublish lets f answer publishes. nil accepts all.
func (b *Broker) OnPublish(f func(Published) Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onPublish = f
}

// Mute makes it receive heartbeats and not answer them, or answer again.
func (b *Broker) Mute(mute bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mute = mute
}

// Discard makes it accept and not keep what is published, for benchmarks. OnPublish and Relay then
// see nothing.
func (b *Broker) Discard(discard bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.discard = discard
}

// Clients returns how many connections have shaken hands.
func (b *Broker) Clients() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sessions)
}

// errNobody is why something cannot be sent.
var errNobody = errors.New("clienttest: no client of the group is connected")

// Deliver sends the message to the newest connection of the group, as it was published, and returns the
// opaque that the Ack will have.
func (b *Broker) Deliver(group string, p Published) (uint32, error) {
	return b.toGroup(group, func(dst []byte, opaque uint32) []byte { return p.append(dst, opaque, true) })
}

// Check asks the newest connection of the group about a prepared message, as brokers do.
func (b *Broker) Check(group string, p Published) (uint32, error) {
	f, _, failure := framing.Next(p.append(nil, 1, false))
	if failure != nil {
		return 0, failure
	}
	opaque, err := b.toGroup(group, func(dst []byte, opaque uint32) []byte {
		dst, failure = protocol.AppendTxCheck(dst, framing, opaque, f.Payload, protocol.FeedbackCheck)
		return dst
	})
	return opaque, errors.Join(err, failure)
}

// Frame sends any frame to the newest connection of the group.
func (b *Broker) Frame(group string, opaque uint32, command uint8, payload []byte) error {
	_, err := b.toGroup(group, func(dst []byte, _ uint32) []byte {
		return framing.AppendFrame(dst, opaque, protocol.Command(command), payload)
	})
	return err
}

func (b *Broker) toGroup(group string, appendTo func(dst []byte, opaque uint32) []byte) (uint32, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range slices.Backward(b.sessions) {
		if s.group == group {
			b.opaque++
			s.send(func(dst []byte) []byte { return appendTo(dst, b.opaque) })
			return b.opaque, nil
		}
	}
	return 0, fmt.Errorf("%w: %s", errNobody, group)
}

func (b *Broker) forget(s *session) {
	s.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessions = slices.DeleteFunc(b.sessions, func(other *session) bool { return other == s })
}
