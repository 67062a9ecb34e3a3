package page

import (
	"fmt"
	"html/template"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// functions are what templates call to write numbers, times and paths.
func functions() template.FuncMap {
	return template.FuncMap{
		"path": path, "count": count, "rate": rate, "ago": ago, "until": until, "moment": moment, "plural": plural, "entry": newEntry, "contains": strings.Contains, "delay": delay, "plots": figures,
		"assets": func() string { return Root + "/assets" },
	}
}

// entry is one of the navigation.
type entry struct {
	Path, Name string
	Current    bool
}

func newEntry(current, section, place, name string) entry {
	return entry{Path: path(place), Name: name, Current: current == section}
}

// figure is a plot on a page; page.js knows what each kind draws.
type figure struct{ Kind, Title string }

func figures(kinds ...string) []figure {
	titles := map[string]string{
		"rates": "Messages a second", "out": "Messages a second", "backlog": "Backlog, messages",
		"latency": "Latency, ms, 99 of 100",
	}
	all := make([]figure, len(kinds))
	for i, kind := range kinds {
		all[i] = figure{kind, titles[kind]}
	}
	return all
}

// path makes a path below Root of parts, each escaped.
func path(parts ...any) string {
	var b strings.Builder
	b.WriteString(Root)
	for _, part := range parts {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(fmt.Sprint(part)))
	}
	return b.String()
}

// count writes a number so that its size is seen: 17, 12,345, 1.2 M.
func count(n any) string {
	v, err := strconv.ParseInt(fmt.Sprint(n), 10, 64)
	switch {
	case err != nil:
		return fmt.Sprint(n)
	case v >= 1e9:
		return fmt.Sprintf("%.1f G", float64(v)/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.1f M", float64(v)/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%d,%03d", v/1e3, v%1e3)
	}
	return strconv.FormatInt(v, 10)
}

// rate writes messages a second.
func rate(r float64) string {
	if r == 0 || r >= 10 {
		return count(int64(math.Round(r)))
	}
	return strconv.FormatFloat(r, 'f', 1, 64)
}

// delay writes how quick something was, "–" when nothing was.
func delay(d time.Duration) string {
	switch {
	case d == 0:
		return "–"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return span(d)
}

// span writes a time as people say it.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// ago and until write how far a moment (Unix ms) is, "" for none.
func ago(ms int64) string   { return distance(ms, -1) }
func until(ms int64) string { return distance(ms, 1) }

func distance(ms, sign int64) string {
	if ms == 0 {
		return ""
	}
	return span(max(0, time.Duration(sign*(ms-time.Now().UnixMilli()))*time.Millisecond))
}

// moment writes a time (Unix ms) in UTC, as the log does, "" for none.
func moment(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000")
}

// plural writes "1 group" or "3 groups".
func plural(n any, word string) string {
	if text := count(n); text != "1" {
		return text + " " + word + "s"
	}
	return "1 " + word
}
