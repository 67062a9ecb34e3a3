package page

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"html/template"
	"io/fs"
	"net/http"
	"strings"

	"github.com/kiteq/kiteq/server/admin"
)

// sheet is what a template shows.
type sheet struct {
	Title   string
	Section string   // the entry of the navigation that it belongs to
	Live    bool     // it changes by itself
	Plots   *subject // of its plots, nil without
	Body    any

	// By sheet:
	Stream  string   // where its live part comes from, "" when it is not live
	Reasons []string // why the broker does not serve
}

// sheets are the templates by name.
type sheets map[string]*template.Template

//go:embed templates
var templates embed.FS

// newSheets parses the templates: each page with the frame around it and the parts that pages share.
func newSheets() sheets {
	names, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		panic("page: " + err.Error())
	}
	shared := template.Must(template.New("").Funcs(functions()).ParseFS(templates, "templates/frame.html", "templates/parts.html"))
	all := sheets{}
	for _, path := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "templates/"), ".html")
		if name != "frame" && name != "parts" {
			all[name] = template.Must(template.Must(shared.Clone()).ParseFS(templates, path))
		}
	}
	return all
}

// sheet does the work of one request within the time that it has.
func (p *Page) sheet(r *http.Request, work func(*http.Request) (sheet, error)) (sheet, error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	s, err := work(r.WithContext(ctx))
	if err != nil {
		return s, err
	}
	if s.Live {
		query := r.URL.Query()
		query.Set("live", "")
		s.Stream = r.URL.EscapedPath() + "?" + query.Encode()
	}
	s.Reasons = p.reasons()
	return s, nil
}

// reasons says why the broker does not serve, nothing when it does.
func (p *Page) reasons() []string {
	err := p.broker.Ready()
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// show answers with a page, or with the stream of its live part.
func (p *Page) show(w http.ResponseWriter, r *http.Request, name string, work func(*http.Request) (sheet, error)) {
	if r.URL.Query().Has("live") {
		p.stream(w, r, name, work)
		return
	}
	s, err := p.sheet(r, work)
	if err != nil {
		p.fail(w, r, admin.StatusOf(err), err.Error())
		return
	}
	p.write(w, http.StatusOK, name, s)
}

// fail answers with a page that says what went wrong.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, status int, text string) {
	back := Root + "/"
	if r.Method != http.MethodGet { // where the form was
		back = cmp.Or(r.Header.Get("Referer"), back)
	}
	p.write(w, status, "failure", sheet{
		Title: http.StatusText(status), Reasons: p.reasons(),
		Body: failure{Text: strings.ReplaceAll(text, "\n", "; "), Back: back},
	})
}

// failure is the body of a page that says what went wrong.
type failure struct{ Text, Back string }

// write renders before it answers: a page is whole, or an error.
func (p *Page) write(w http.ResponseWriter, status int, name string, s sheet) {
	var html bytes.Buffer
	if err := p.sheets[name].ExecuteTemplate(&html, "frame", s); err != nil {
		p.log.Error("page not rendered", "page", name, "err", err)
		http.Error(w, "this page cannot be shown: the log of the broker says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(html.Bytes()) // a browser that went away is not our concern
}
