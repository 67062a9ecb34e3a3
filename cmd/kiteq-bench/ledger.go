package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// places is a set of places in a stream, a bit for each.
type places []uint64

func (p places) has(place uint64) bool {
	return place/64 < uint64(len(p)) && p[place/64]&(1<<(place%64)) != 0
}

func (p *places) add(place uint64) {
	for uint64(len(*p)) <= place/64 {
		*p = append(*p, 0)
	}
	(*p)[place/64] |= 1 << (place % 64)
}

// subject is what a message is about: consumers bind to it.
type subject struct{ topic, kind string }

// ledger is what was published: one stream for each subject of each connection. A place is entered
// before it is written to the broker, so that nothing can come back that the ledger does not know.
type ledger struct {
	run     uint64
	size    int
	streams []*stream

	sent, accepted, refused, unanswered atomic.Int64
	framed                              atomic.Int64 // bytes of the frames written; -via client does not see them

	mu      sync.Mutex
	reasons map[string]int64 // of what was refused or failed
}

// stream is the messages of one connection on one subject, in the order of sending.
type stream struct {
	subject
	number uint32
	window chan struct{} // -until delivered: the publisher's, set before the first place is sent
	sent   atomic.Uint64 // places below it were sent

	mu       sync.Mutex
	accepted places
	halfway  places // -until delivered: confirmed or delivered
}

func newLedger(run uint64, size, conns int, subjects []subject) *ledger {
	l := &ledger{run: run, size: size, reasons: map[string]int64{}}
	for range conns {
		for _, about := range subjects {
			l.streams = append(l.streams, &stream{number: uint32(len(l.streams)), subject: about})
		}
	}
	return l
}

// of returns the streams of one connection.
func (l *ledger) of(conn, subjects int) []*stream {
	return l.streams[conn*subjects : (conn+1)*subjects]
}

// enter takes the next place of the stream and stamps the body with it.
func (l *ledger) enter(s *stream, due time.Time, body []byte) uint64 {
	place := s.sent.Load()
	stamp{l.run, s.number, place, due}.write(body)
	s.sent.Store(place + 1)
	l.sent.Add(1)
	return place
}

// accept says that the broker confirmed the message.
func (l *ledger) accept(s *stream, place uint64) {
	s.mu.Lock()
	s.accepted.add(place)
	s.mu.Unlock()
	l.accepted.Add(1)
}

// meet is called when the message is confirmed and when it is delivered, in any order. The second call
// gives its place in the window back.
func (s *stream) meet(place uint64) {
	s.mu.Lock()
	second := s.halfway.has(place)
	s.halfway.add(place)
	s.mu.Unlock()
	if second {
		<-s.window
	}
}

// refuse says that the broker refused the message, and why.
func (l *ledger) refuse(reason string) {
	l.refused.Add(1)
	l.note(reason)
}

// leave says that nobody knows what became of so many messages.
func (l *ledger) leave(n int64, reason string) {
	l.unanswered.Add(n)
	l.note(reason)
}

// note counts a reason. A broker may put changing text in it, so there is a bound.
func (l *ledger) note(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.reasons[reason]; !known && len(l.reasons) >= 32 {
		reason = "others"
	}
	l.reasons[reason]++
}
