package page

import (
	"context"
	"net/http"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/server/admin"
)

// maxForm is how many bytes of an order are read.
const maxForm = 64 << 10

// order does what a form asks for, and then shows the page that the work names.
func (p *Page) order(work func(*http.Request) (next string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next, err := "", r.ParseForm()
		if err != nil {
			err = kite.Errorf(kite.Invalid, "form: %w", err)
		} else {
			next, err = work(r)
		}
		p.census.forget()
		if err != nil {
			p.fail(w, r, admin.StatusOf(err), err.Error())
			return
		}
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
}

// note reads who gives the order, and why.
func note(r *http.Request, reasonRequired bool) (kite.Note, error) {
	return admin.Signed(r, operate.Note{By: r.PostFormValue("by"), Reason: r.PostFormValue("reason")}, reasonRequired)
}

func (p *Page) decide(r *http.Request) (string, error) {
	id, err := messageID(r)
	if err != nil {
		return "", err
	}
	decision := admin.Decision(r.PathValue("order"))
	switch decision {
	case admin.Commit, admin.Rollback, admin.Check:
	default:
		return "", kite.Errorf(kite.NotServed, "order %.64q: give commit, rollback or check", string(decision))
	}
	n, err := note(r, decision != admin.Check)
	if err != nil {
		return "", err
	}
	_, err = p.broker.Decide(r.Context(), id, decision, n)
	return path("messages", id), err
}

func (p *Page) cancel(r *http.Request) (string, error) {
	id, err := messageID(r)
	if err != nil {
		return "", err
	}
	if order := r.PathValue("order"); order != "cancel" {
		return "", kite.Errorf(kite.NotServed, "order %.64q: give cancel", order)
	}
	n, err := note(r, true)
	if err != nil {
		return "", err
	}
	_, err = p.broker.Cancel(r.Context(), id, n)
	return path("messages", id), err
}

func (p *Page) direct(r *http.Request) (string, error) {
	topic, group, err := topicAndGroup(r)
	if err != nil {
		return "", err
	}
	n, err := note(r, false)
	if err != nil {
		return "", err
	}
	switch order := r.PathValue("order"); order {
	case "pause", "resume":
		_, err = p.broker.Pause(r.Context(), topic, group, order == "pause", n)
	default:
		err = kite.Errorf(kite.NotServed, "order %.64q: give pause or resume", order)
	}
	return path("groups", topic, group), err
}

// dispose requeues or discards. Who gave the order in the list sees the list again.
func (p *Page) dispose(r *http.Request) (string, error) {
	topic, group, number, err := letterOf(r)
	if err != nil {
		return "", err
	}
	order := r.PathValue("order")
	if order != "requeue" && order != "discard" {
		return "", kite.Errorf(kite.NotServed, "order %.64q: give requeue or discard", order)
	}
	n, err := note(r, false)
	if err != nil {
		return "", err
	}
	_, err = p.broker.Dispose(r.Context(), topic, group, number, order == "requeue", n)
	return path("deadletters", topic, group), err
}
