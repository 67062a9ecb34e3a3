package deliver

import (
	"testing"
	"time"
)

// TestSlotOpaque gives every delivery a number that no other unanswered one of the shard has, that says
// whose it is, and that its next tenant does not share.
func TestSlotOpaque(t *testing.T) {
	t.Parallel()
	var table slots
	m, other := &member{}, &member{}
	seen := map[uint32]bool{}
	var indexes, opaques []uint32
	for range maxSlots {
		index, opaque, ok := table.take()
		if !ok || seen[opaque] || opaque>>30 != 2 {
			t.Fatalf("opaque %#x, %v: taken twice, or not in the range of deliveries", opaque, ok)
		}
		seen[opaque] = true
		table.all[index].member = m
		indexes, opaques = append(indexes, index), append(opaques, opaque)
	}
	if _, _, ok := table.take(); ok {
		t.Fatal("a slot too many")
	}
	for i, opaque := range opaques {
		if index, ok := table.find(opaque, m); !ok || index != indexes[i] {
			t.Fatalf("opaque %#x leads to slot %d, %v", opaque, index, ok)
		}
		if _, ok := table.find(opaque, other); ok {
			t.Fatalf("opaque %#x answers to another session", opaque)
		}
	}
	table.put(indexes[7])
	if _, ok := table.find(opaques[7], m); ok {
		t.Error("an answered delivery is found")
	}
	index, opaque, ok := table.take()
	table.all[index].member = m
	if !ok || index != indexes[7] || opaque == opaques[7] {
		t.Errorf("slot %d with opaque %#x, want slot %d with a new one", index, opaque, indexes[7])
	}
	if _, ok := table.find(opaques[7], m); ok {
		t.Error("a stale answer reaches the slot's next tenant")
	}
}

// TestSlotGenerations gives a slot a number again only after all the others.
func TestSlotGenerations(t *testing.T) {
	t.Parallel()
	var table slots
	seen := map[uint32]bool{}
	for range generationMask + 1 {
		index, opaque, _ := table.take()
		if seen[opaque] {
			t.Fatalf("opaque %#x comes again after %d deliveries", opaque, len(seen))
		}
		seen[opaque] = true
		table.put(index)
	}
}

// TestSlotDeadlines finds the earliest deadline among slots that were answered, reused or late.
func TestSlotDeadlines(t *testing.T) {
	t.Parallel()
	var table slots
	m := &member{}
	watch := func(deadlineMs int64) uint32 {
		index, _, _ := table.take()
		table.all[index].member = m
		table.watch(index, sent, deadlineMs)
		return index
	}
	a, b := watch(10), watch(20)
	watch(30)
	table.put(a)
	if again := watch(40); again != a {
		t.Fatal("the slot is not reused")
	}
	if ms, ok := table.deadline(); !ok || ms != 20 {
		t.Errorf("the earliest deadline is %d, want 20: the first was answered", ms)
	}
	if _, ok := table.overdue(sent, 19); ok {
		t.Error("overdue before its time")
	}
	if i, ok := table.overdue(sent, 20); !ok || i != b {
		t.Errorf("overdue: %d, %v", i, ok)
	}
	table.watch(b, late, 1000)
	for _, want := range []int64{30, 40} {
		if ms, ok := table.deadline(); !ok || ms != want {
			t.Errorf("the earliest deadline is %d, want %d", ms, want)
		}
		table.overdue(sent, want)
	}
	if ms, ok := table.deadline(); !ok || ms != 1000 {
		t.Errorf("the late one is forgiven at %d, want 1000", ms)
	}
	if _, ok := table.overdue(late, 999); ok {
		t.Error("forgiven before its time")
	}
	if i, ok := table.overdue(late, 1000); !ok || i != b {
		t.Errorf("forgivable: %d, %v", i, ok)
	}
	if ms, ok := table.deadline(); ok {
		t.Errorf("a deadline of nothing: %d", ms)
	}
	for i := range 100_000 { // answered ones do not pile up
		table.put(watch(int64(100 + i)))
		table.deadline()
	}
	if cap(table.lines[sent].queue) > 8192 {
		t.Errorf("room for %d deadlines of none", cap(table.lines[sent].queue))
	}
}

// TestUnsentKeepsNoSlot tries to send when nobody has credit, again and again: no attempt may keep its slot,
// or they would all be gone one day.
func TestUnsentKeepsNoSlot(t *testing.T) {
	t.Parallel()
	run(t, Options{Shards: 1}, func(t *testing.T, r *rig) {
		r.route(fanout("trade", "s-a"))
		r.join("s-a", "a1", 0)
		r.publish("trade", 1, message{})
		for range 20 {
			r.d.Joined("s-a")
			pass(time.Second)
		}
		r.expect("nobody has credit")
		if all, free := len(r.d.shards[0].slots.all), len(r.d.shards[0].slots.free); all != free {
			t.Errorf("%d of %d slots are taken by deliveries that were not sent", all-free, all)
		}
	})
}
