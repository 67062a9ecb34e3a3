package mmap

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// worker does what the lane need not wait for: jobs, in the order in which they came. Run is the worker's
// goroutine. Without it, or when too many jobs wait, a job is done at once by whoever has it: later, so to
// speak, is a courtesy and no promise. A job works on files and mappings that nobody else changes, and
// holds a reference to each segment that it reads.
type worker struct {
	jobs    chan func()
	running atomic.Bool
}

// waitingJobs bounds the queue. A roll makes two or three.
const waitingJobs = 32

func newWorker() worker { return worker{jobs: make(chan func(), waitingJobs)} }

// later does the job in the background.
func (j *Journal) later(job func()) {
	if j.worker.running.Load() {
		select {
		case j.worker.jobs <- job:
			return
		default:
		}
	}
	job()
}

// finishJobs does what was left in the queue.
func (j *Journal) finishJobs() {
	for {
		select {
		case job := <-j.worker.jobs:
			job()
		default:
			return
		}
	}
}

// Run does the journal's work in the background, and syncs when Options.Sync asks for it. It returns nil
// when ctx ends and the error when the journal is poisoned.
func (j *Journal) Run(ctx context.Context) error {
	j.worker.running.Store(true)
	defer j.worker.running.Store(false)
	var ticks <-chan time.Time
	if j.o.Sync > 0 {
		tick := time.NewTicker(time.Duration(j.o.Sync))
		defer tick.Stop()
		ticks = tick.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case job := <-j.worker.jobs:
			job()
		case <-ticks:
			if err := j.sync(); err != nil {
				return fmt.Errorf("sync in the background: %w", err)
			}
		}
	}
}
