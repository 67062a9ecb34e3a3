package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// BenchmarkConnections sends frames of the size of a delivery in turns to many connections, each of which answers
// with one of the size of a DeliverAck; 1024 are unanswered at a time. An op is one frame and its answer: what the
// system takes for it when nobody does anything with it. With two connections frames share their writes and reads,
// with a thousand each has its own: no broker can do more deliveries a second to as many members.
func BenchmarkConnections(b *testing.B) {
	for _, n := range []int{2, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchConnections(b, n) })
	}
}

const (
	deliveryBytes = 400
	answerBytes   = 60
)

func benchConnections(b *testing.B, n int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	free := make(chan struct{}, 1024)
	var running sync.WaitGroup
	conns := make([]net.Conn, n)
	for i := range conns {
		member, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		if conns[i], err = l.Accept(); err != nil {
			b.Fatal(err)
		}
		answers := make([]byte, (64<<10/deliveryBytes+1)*answerBytes)
		running.Go(func() {
			defer member.Close()
			frames(member, deliveryBytes, func(n int) { _, _ = member.Write(answers[:n*answerBytes]) })
		})
		running.Go(func() {
			frames(conns[i], answerBytes, func(n int) {
				for range n {
					<-free
				}
			})
		})
	}
	// Of two connections each gets 32 frames with a write, as a flow sends them; of a thousand none has more than one.
	run := max(1, 64/n)
	body := make([]byte, run*deliveryBytes)
	b.SetBytes(deliveryBytes)
	b.ResetTimer()
	for sent := 0; sent < b.N; sent += run {
		for range run {
			free <- struct{}{}
		}
		if _, err := conns[sent/run%n].Write(body); err != nil {
			b.Fatal(err)
		}
	}
	for range cap(free) { // every answer is there
		free <- struct{}{}
	}
	b.StopTimer()
	for _, c := range conns {
		c.Close()
	}
	running.Wait()
}

// frames tells how many frames of the size each read has completed, until the connection ends.
func frames(conn net.Conn, size int, read func(n int)) {
	in := make([]byte, 64<<10)
	part := 0
	for {
		n, err := conn.Read(in)
		if err != nil {
			if err != io.EOF {
				conn.Close()
			}
			return
		}
		part += n
		if part >= size {
			read(part / size)
			part %= size
		}
	}
}
