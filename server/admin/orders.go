package admin

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

func (d *desk) story(r *http.Request) (any, error) {
	id, err := messageID(r)
	if err != nil {
		return nil, err
	}
	return d.operator.Story(r.Context(), id)
}

func (d *desk) transactions(r *http.Request) (any, error) {
	f, err := filter(r, "topic", "group", "state", "after", "limit")
	if err != nil {
		return nil, err
	}
	return d.operator.Transactions(r.Context(), f)
}

func (d *desk) transaction(r *http.Request) (any, error) {
	id, err := messageID(r)
	if err != nil {
		return nil, err
	}
	return d.operator.Transaction(r.Context(), id)
}

func (d *desk) decide(r *http.Request) (any, error) {
	id, err := messageID(r)
	if err != nil {
		return nil, err
	}
	decision := Decision(r.PathValue("order"))
	switch decision {
	case Commit, Rollback, Check:
	default:
		return nil, kite.Errorf(kite.NotServed, "order %.64q: give commit, rollback or check", string(decision))
	}
	note, err := noted(r, decision != Check)
	if err != nil {
		return nil, err
	}
	return d.operator.Decide(r.Context(), id, decision, note)
}

func (d *desk) delayed(r *http.Request) (any, error) {
	f, err := filter(r, "topic", "after", "limit")
	if err != nil {
		return nil, err
	}
	return d.operator.Delayed(r.Context(), f)
}

func (d *desk) cancel(r *http.Request) (any, error) {
	id, err := messageID(r)
	if err != nil {
		return nil, err
	}
	if order := r.PathValue("order"); order != "cancel" {
		return nil, kite.Errorf(kite.NotServed, "order %.64q: give cancel", order)
	}
	note, err := noted(r, true)
	if err != nil {
		return nil, err
	}
	return d.operator.Cancel(r.Context(), id, note)
}

// noted reads a body that is a note and nothing else.
func noted(r *http.Request, reasonRequired bool) (kite.Note, error) {
	var asked operate.Note
	if err := body(r, &asked); err != nil {
		return kite.Note{}, err
	}
	return Signed(r, asked, reasonRequired)
}

func (d *desk) groups(r *http.Request) (any, error) {
	f, err := filter(r, "topic", "group")
	if err != nil {
		return nil, err
	}
	return d.operator.Groups(r.Context(), f)
}

func (d *desk) direct(r *http.Request) (any, error) {
	topic, group, err := topicAndGroup(r)
	if err != nil {
		return nil, err
	}
	var asked operate.Seek
	order := r.PathValue("order")
	switch order {
	case "pause", "resume":
		err = body(r, &asked.Note)
	case "seek":
		err = body(r, &asked)
	default:
		err = kite.Errorf(kite.NotServed, "order %.64q: give pause, resume or seek", order)
	}
	if err != nil {
		return nil, err
	}
	note, err := Signed(r, asked.Note, false)
	switch {
	case err != nil:
		return nil, err
	case order == "seek":
		return d.operator.Seek(r.Context(), topic, group, asked, note)
	}
	return d.operator.Pause(r.Context(), topic, group, order == "pause", note)
}

// lettersOf reads which dead letters are meant: those of one group.
func lettersOf(r *http.Request, allowed ...string) (operate.Filter, error) {
	f, err := filter(r, append(allowed, "topic", "group")...)
	switch {
	case err != nil:
		return f, err
	case f.Topic == "" || f.Group == "":
		return f, kite.Errorf(kite.Invalid, "topic and group: both are needed; GET /groups shows who has dead letters")
	}
	if err := kite.CheckTopic(f.Topic); err != nil {
		return f, err
	}
	return f, kite.CheckGroup(f.Group)
}

func (d *desk) letters(r *http.Request) (any, error) {
	f, err := lettersOf(r, "after", "limit")
	if err != nil {
		return nil, err
	}
	return d.operator.Letters(r.Context(), f, false)
}

// letterOf reads which dead letter is meant.
func letterOf(r *http.Request) (topic, group string, n kite.Seq, err error) {
	if topic, group, err = topicAndGroup(r); err != nil {
		return "", "", 0, err
	}
	number, err := strconv.ParseUint(r.PathValue("n"), 10, 64)
	if err != nil || number == 0 {
		return "", "", 0, kite.Errorf(kite.Invalid, "dead letter %.32q: give its n, 1 or more", r.PathValue("n"))
	}
	return topic, group, kite.Seq(number), nil
}

func (d *desk) letter(r *http.Request) (any, error) {
	topic, group, n, err := letterOf(r)
	if err != nil {
		return nil, err
	}
	return d.operator.Letter(r.Context(), topic, group, n)
}

func (d *desk) dispose(r *http.Request) (any, error) {
	topic, group, n, err := letterOf(r)
	if err != nil {
		return nil, err
	}
	order := r.PathValue("order")
	if order != "requeue" && order != "discard" {
		return nil, kite.Errorf(kite.NotServed, "order %.64q: give requeue or discard", order)
	}
	note, err := noted(r, false)
	if err != nil {
		return nil, err
	}
	return d.operator.Dispose(r.Context(), topic, group, n, order == "requeue", note)
}

// exportPage is how many dead letters, which may be large, are held at a time.
const exportPage = 16

// export streams the dead letters of a group with their messages, one JSON object a line. An error after the
// first line ends the connection without the end of the body: who reads knows that something is missing.
func (d *desk) export(w http.ResponseWriter, r *http.Request) {
	f, err := lettersOf(r)
	if err != nil {
		reply(w, StatusOf(err), operate.Error{Error: err.Error()})
		return
	}
	f.Limit = exportPage
	lines := json.NewEncoder(w)
	for begun := false; ; begun = true {
		page, err := d.operator.Letters(r.Context(), f, true)
		switch {
		case err != nil && begun:
			panic(http.ErrAbortHandler)
		case err != nil:
			reply(w, StatusOf(err), operate.Error{Error: err.Error()})
			return
		case !begun:
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		for i := range page.Letters {
			if lines.Encode(&page.Letters[i]) != nil {
				return // the client went away
			}
		}
		if f.After = page.Next; f.After == "" {
			return
		}
	}
}
