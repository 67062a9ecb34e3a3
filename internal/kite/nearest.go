package kite

// Nearest returns the index of the binding whose MessageType is most like the message's: by the fewest edits, and
// of equals the one that begins alike for longer. It is -1 when there is none.
func Nearest(bindings []Binding, messageType string) int {
	best, bestEdits, bestAlike := -1, 0, 0
	for i := range bindings {
		text := bindings[i].MessageType
		n, alike := edits(text, messageType), alike(text, messageType)
		if best < 0 || n < bestEdits || n == bestEdits && alike > bestAlike {
			best, bestEdits, bestAlike = i, n, alike
		}
	}
	return best
}

// edits is how many bytes must be added, removed or changed to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// alike is how many bytes both begin with.
func alike(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
