package page

import (
	"strings"
	"testing"

	"github.com/kiteq/kiteq/internal/operate"
)

// TestMessageOrders: a message's page offers what can be ordered about it now.
func TestMessageOrders(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		why            string
		state          string // of the transaction, "" when it never was one
		seq            uint64
		events         []string
		decide, cancel bool
	}{
		{"undecided", operate.Open, 0, []string{operate.Prepared}, true, false},
		{"parked", operate.Parked, 0, []string{operate.Prepared, operate.Parked}, true, false},
		{"committed", operate.Committed, 1, []string{operate.Prepared, operate.Committed}, false, false},
		{"for later", "", 0, []string{operate.Delayed}, false, true},
		{"committed for later", operate.Committed, 0, []string{operate.Prepared, operate.Delayed}, false, true},
		{"cancelled", "", 0, []string{operate.Delayed, operate.Cancelled}, false, false},
		{"its time has come", "", 1, []string{operate.Delayed, operate.Stored}, false, false},
	} {
		f := small()
		f.story.Events, f.story.Seq, f.one = nil, test.seq, operate.Transaction{}
		if test.state != "" {
			f.one = operate.Transaction{ID: testID, State: test.state}
		}
		for i, what := range test.events {
			f.story.Events = append(f.story.Events, operate.Event{AtMs: int64(1 + i), What: what})
		}
		_, body := get(t, newPage(f), "/ui/messages/"+testID)
		if decide, cancel := strings.Contains(body, "/commit"), strings.Contains(body, "/cancel"); decide != test.decide || cancel != test.cancel {
			t.Errorf("%s: decide %v, cancel %v", test.why, decide, cancel)
		}
	}
}
