"""Reading addresses that users name: one door for all HTTP that leaves AgentHub on their word. Knows no other engine."""
