package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// lookEvery is how often the guard looks: a disk that takes 1 GB/s loses a tenth of the default's mark meanwhile.
const lookEvery = 100 * time.Millisecond

// Space is the file system below a journal, bytes.
type Space struct{ Free, Size int64 }

// Door is where publishes come in.
type Door interface {
	// Hold refuses every publish from now on, as cause, with the text. Open takes them again.
	Hold(cause Cause, text string)
	Open()
}

// Cause is what there is too little of.
type Cause string

// The causes.
const (
	Disk   Cause = "disk"
	Memory Cause = "memory"
)

// Guard looks at disk and memory and closes the door while there is too little of either. It is no promise: a journal
// keeps a reserve of its own, and a process that is over its bounds is ended by the system. It is what comes before.
//
// Where it closes and where it opens again are not the same, or each publish that is taken would close it.
type Guard struct {
	options atomic.Pointer[Options]
	space   func() (Space, error) // nil: the journal is on no disk
	memory  func() int64
	most    int64 // that the process may have when MemoryHigh does not say; 0: not known
	door    Door
	log     *slog.Logger

	newest atomic.Pointer[Sight]
	unseen bool // the disk was not to be seen, and the log says so
}

// Sight is what the guard saw last, bytes; 0 is not known, or no bound.
type Sight struct {
	Space
	DiskLow, Memory, MemoryHigh int64
	// Held is why publishes are refused, "" while they are not.
	Held Cause
}

// New returns a guard that looks from Run on. space tells of the journal's file system; nil when it is on none.
func New(o Options, space func() (Space, error), door Door, log *slog.Logger) *Guard {
	g := &Guard{space: space, memory: held, most: available("/") / 5 * 4, door: door, log: log.With("component", "guard")}
	g.options.Store(&o)
	g.newest.Store(&Sight{})
	return g
}

// Tune takes over other options.
func (g *Guard) Tune(o Options) { g.options.Store(&o) }

// Newest returns what was seen last.
func (g *Guard) Newest() Sight { return *g.newest.Load() }

// Run looks until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		g.look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (g *Guard) look() {
	before, o := g.newest.Load(), g.options.Load()
	now := Sight{Memory: g.memory(), MemoryHigh: int64(o.MemoryHigh)}
	if now.MemoryHigh == 0 {
		now.MemoryHigh = g.most
	}
	if g.space != nil {
		var err error
		if now.Space, err = g.space(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !g.unseen {
			g.unseen = true
			g.log.Warn("free disk space is not known, only the journal's reserve keeps some", "err", err)
		}
		if err == nil {
			now.DiskLow = min(int64(o.DiskLow), now.Size/20)
		}
	}
	text := now.judge(before.Held)
	g.newest.Store(&now)
	switch {
	case now.Held == before.Held:
	case now.Held == "":
		g.log.Info("publishes are taken again", "was", string(before.Held), "free", now.Free, "memory", now.Memory)
		g.door.Open()
	default:
		g.log.Warn("publishes are refused", "cause", string(now.Held), "why", text, "hint", hints[now.Held])
		g.door.Hold(now.Held, text)
	}
}

var hints = map[Cause]string{
	Disk:   "free disk space, or find who holds old messages: a group that never comes back, undecided transactions, dead letters",
	Memory: "fewer connections, undecided transactions or delayed messages of one minute; or raise limits.memory_high",
}

// judge sets Held, by what it was before, and says why in words.
func (s *Sight) judge(before Cause) (why string) {
	low, high := s.DiskLow, s.MemoryHigh
	switch before {
	case Disk:
		low += low / 4
	case Memory:
		high -= high / 10
	}
	switch {
	case s.Size > 0 && s.Free < low:
		s.Held = Disk
		return fmt.Sprintf("disk low: %s free, %s are kept", round(s.Free), round(s.DiskLow))
	case high > 0 && s.Memory > high:
		s.Held = Memory
		return fmt.Sprintf("memory high: %s of %s", round(s.Memory), round(s.MemoryHigh))
	}
	return ""
}

// round writes a size for people.
func round(bytes int64) string {
	if bytes >= 10<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}
