package deliver

import (
	"time"

	"github.com/kiteq/kiteq/internal/kite"
)

// policy is how long a message waits before it is sent again: after the first failed attempt, after the second
// and so on; the last holds for all that follow. An empty one is the table of delayMs.
type policy []time.Duration

// Bounds of a policy.
const (
	maxPauses = 32
	maxPause  = 24 * time.Hour
)

// delayMs returns the pause after so many attempts.
func (p policy) delayMs(attempts uint8) int64 {
	if len(p) == 0 {
		return delayMs(attempts)
	}
	return p[min(max(int(attempts), 1), len(p))-1].Milliseconds()
}

// delayMs is how long a message of a group without a policy waits before it is sent again, by the attempts
// made (interop contract §7.4).
func delayMs(attempts uint8) int64 {
	switch {
	case attempts < 4:
		return 0
	case attempts < 10:
		return 5_000
	case attempts < 20:
		return 10_000
	case attempts < 30:
		return 20_000
	case attempts < 40:
		return 40_000
	case attempts < 50:
		return 80_000
	}
	return 160_000
}

// checkPolicies reports every policy that cannot be.
func checkPolicies(policies map[string][]time.Duration, problems *kite.Problems) {
	for group, pauses := range policies {
		if err := kite.CheckGroup(group); err != nil {
			problems.Check(false, "retry: %w", err)
		}
		problems.Check(len(pauses) >= 1 && len(pauses) <= maxPauses, "retry of group %q: %d pauses, use 1 to %d", group, len(pauses), maxPauses)
		for _, pause := range pauses {
			problems.Check(pause >= 0 && pause <= maxPause, "retry of group %q: pause %v, use 0s to %v", group, pause, maxPause)
		}
	}
}
