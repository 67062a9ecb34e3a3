package mmap

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/kite"
)

// gateFS has segments whose Sync waits for its result at the gate.
type gateFS struct {
	*memFS
	gate chan error
}

func (g gateFS) Create(path string) (File, error) {
	file, err := g.memFS.Create(path)
	if err != nil || !strings.HasSuffix(path, segmentExt) {
		return file, err
	}
	return gateFile{file, g.gate}, nil
}

type gateFile struct {
	File
	gate chan error
}

func (f gateFile) Sync() error { return <-f.gate }

// TestRollWaitsForNoSync fills segments of class written while the first one's sync takes its time: Append
// goes on up to maxRetired segments, durable only in order, and a sync that fails poisons the journal.
func TestRollWaitsForNoSync(t *testing.T) {
	t.Parallel()
	fs := gateFS{newFS(nil), make(chan error)}
	o := options(fs)
	o.Sync = SyncOS
	j := mustOpen(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	j.worker.running.Store(true)
	go func() { done <- j.Run(ctx) }()
	seq := 1
	for ; len(j.segments) <= maxRetired; seq++ { // the test would hang here
		mustAppend(t, j, message("a", seq, 1000))
	}
	if got := j.durable.Load(); got != 0 {
		t.Errorf("durable up to %d, and nothing was synced", got)
	}
	first, second := j.segments[0], j.segments[1]
	fs.gate <- nil
	fs.gate <- errFaulty // the second: the first is sealed by now
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if got := kite.Position(j.durable.Load()); got != first.limit() || first.file != nil || second.file == nil {
		t.Errorf("durable up to %d, want the end of the first segment, %d", got, first.limit())
	}
	if err := j.Append([]*kite.Record{message("a", seq, 1)}); !errors.Is(err, kite.Unavailable) || !errors.Is(err, errFaulty) {
		t.Errorf("append after the failed sync: %v, want code unavailable", err)
	}
}
