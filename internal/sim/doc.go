// Package sim runs the real handler tree in one process, on fake connections and virtual time. It is only tests.
//
// TestScripts plays the scripts in testdata: go test ./internal/sim, with -rewrite to write down anew what
// the broker does, for a reader of the difference to judge.
//
// TestHistories plays random histories and compares them with a model of what the broker promises: steps_test.go
// has what may happen, model_test.go what must follow, history_test.go tells the one of the other. The broker
// may die at any of its writes. -histories=N plays more or fewer of them, -seed=N one of them some times: the
// steps are the same then, but not which member gets what.
//
// A script has one command a line. The indented lines below a command are what followed: when, counted
// from the start, and what which connection received. A check has no time, since its pauses are random.
//
//	route GROUP TOPIC direct|regx|fanout TYPE [volatile] [order=key|topic] [broadcast]   add a binding
//	unroute GROUP TOPIC                                    take all of them away
//	connect CONN GROUP [L]                                 open a connection, of framing G or L
//	drop CONN                                              close it
//	publish CONN TOPIC TYPE mN [limit=N] [expire=D] [size=N] [delay=D] [key=K] [fly]
//	prepare CONN TOPIC TYPE mN [...]                       publish with commit=false
//	commit CONN mN, rollback CONN mN                       the producer's verdict
//	check-reply CONN mN commit|rollback|unknown            the answer to the broker's question
//	ack CONN mN, nack CONN mN [WORD]                       the answer to the oldest delivery of mN
//	tick D                                                 let time go by
//	crash                                                  go on with what the disk holds now
//	dump                                                   what a broker that started now would find
package sim
