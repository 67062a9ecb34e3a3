package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// table prints n rows: as JSON each on its line, as text under a head in columns. Tabs part the columns.
func (g *globals) table(head string, n int, row func(i int) (v any, text string)) error {
	if g.output == "json" {
		for i := range n {
			v, _ := row(i)
			if err := g.print(v, ""); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([]string, 0, n)
	for i := range n {
		_, text := row(i)
		rows = append(rows, text)
	}
	return g.columns("", head, rows)
}

// columns prints the rows below each other, under the head unless it is "". With colours the head is bold, and what
// stands under STATE has the colour of its first word.
func (g *globals) columns(indent, head string, rows []string) error {
	var lines [][]string
	state := -1
	if head != "" {
		lines = append(lines, strings.Split(head, "\t"))
		state = slices.Index(lines[0], "STATE")
	}
	for _, row := range rows {
		lines = append(lines, strings.Split(row, "\t"))
	}
	var widths []int
	for _, cells := range lines {
		for i, cell := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for n, cells := range lines {
		out.WriteString(indent)
		for i, cell := range cells {
			room := ""
			if i < len(cells)-1 {
				room = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			}
			switch {
			case g.colours && n == 0 && head != "":
				cell = bold + cell + plain
			case g.colours && i == state:
				cell = colourOf(cell) + cell + plain
			}
			out.WriteString(cell + room)
		}
		out.WriteByte('\n')
	}
	g.line.Lock()
	defer g.line.Unlock()
	_, err := fmt.Fprint(g.out, out.String())
	return err
}

// What a terminal understands.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

// colourOf is green for what is well, red for what needs somebody, and yellow for what waits.
func colourOf(state string) string {
	switch word, _, _ := strings.Cut(state, " "); strings.Trim(word, ",:") {
	case "ok", "ready", "committed":
		return green
	case "away", "not", "damaged", "dead":
		return red
	}
	return yellow
}
