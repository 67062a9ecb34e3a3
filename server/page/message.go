package page

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// messageSheet is the body of the page of one message.
type messageSheet struct {
	operate.Story
	Picture picture
	Shown   []told
	More    int  // events that are not shown
	Waits   bool // for its time
	Decide  bool // it is undecided
	Parked  bool
}

// told is an event with how bad it is.
type told struct {
	operate.Event
	Level string
}

// shownEvents bounds the list of a page: a topic may have a thousand groups.
const shownEvents = 500

// find goes to the page of the message that was searched for.
func find(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimSpace(r.URL.Query().Get("id"))
	if id == "" {
		id = "-"
	}
	http.Redirect(w, r, path("messages", id), http.StatusSeeOther)
}

func messageID(r *http.Request) (kite.MessageID, error) {
	id, ok := kite.ParseMessageID(r.PathValue("id"))
	if !ok {
		return id, kite.Errorf(kite.Invalid, "message id %.64q: give 32 hexadecimal digits", r.PathValue("id"))
	}
	return id, nil
}

func (p *Page) message(r *http.Request) (sheet, error) {
	id, err := messageID(r)
	if err != nil {
		return sheet{}, err
	}
	story, err := p.broker.Story(r.Context(), id)
	if err != nil {
		return sheet{}, err
	}
	now := time.Now()
	m := messageSheet{Story: story, Picture: draw(story.Events, now)}
	m.list(story.Events, now.UnixMilli())
	told := func(what string) bool {
		return slices.ContainsFunc(story.Events, func(e operate.Event) bool { return e.What == what })
	}
	m.Waits = story.Seq == 0 && told(operate.Delayed) && !told(operate.Cancelled)
	// Most messages never were a transaction, and that is no error here.
	if t, err := p.broker.Transaction(r.Context(), id); err == nil {
		m.Parked = t.State == operate.Parked
		m.Decide = m.Parked || t.State == operate.Open
	}
	return sheet{Title: "Message", Section: "messages", Body: m}, nil
}

// list has what was, what is so now, and what is to come.
func (m *messageSheet) list(events []operate.Event, nowMs int64) {
	var later []told
	for _, e := range events[:min(len(events), shownEvents)] {
		t := told{Event: e, Level: levelOf(e.What)}
		if e.AtMs > nowMs {
			later = append(later, t)
		} else {
			m.Shown = append(m.Shown, t)
		}
	}
	m.Shown = append(m.Shown, later...)
	m.More = len(events) - len(m.Shown)
}

// levelOf says how bad what is told is.
func levelOf(what string) string {
	switch what {
	case operate.Dead, operate.Dying, operate.Failed, operate.Refused, operate.BadBound:
		return bad
	case operate.Stored, operate.Committed, operate.Settled, operate.Requeued:
		return fine
	case operate.Unmatched, operate.Unknown, operate.Unrouted, operate.Expires, operate.Discarded, operate.RolledBack, operate.Cancelled:
		return dim
	}
	return warn // it waits for something
}
