"""Work behind the requests: runners, and what each kind of job does in a slice."""
