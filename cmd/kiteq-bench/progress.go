package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// watch writes a line each second over the one before, when w is a terminal, until the returned
// function is called.
func watch(b *bench, w io.Writer) (stop func()) {
	file, ok := w.(*os.File)
	if !ok {
		return func() {}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func() {}
	}
	end := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var before int64
		for {
			select {
			case <-end:
				fmt.Fprint(w, "\r\x1b[K")
				return
			case <-tick.C:
			}
			line, accepted := b.progress(before)
			before = accepted
			fmt.Fprint(w, "\r\x1b[K"+line)
		}
	})
	return func() {
		close(end)
		running.Wait()
	}
}

// progress is the line, and the number that the next one needs.
func (b *bench) progress(before int64) (string, int64) {
	accepted, received := b.ledger.accepted.Load(), int64(0)
	for _, r := range b.receipts {
		received += r.count()
	}
	return fmt.Sprintf("%s: %d published (%d/s), %d refused, %d delivered",
		*b.phase.Load(), accepted, accepted-before, b.ledger.refused.Load(), received), accepted
}
