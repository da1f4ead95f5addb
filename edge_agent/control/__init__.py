"""What changes the plan: measurements become a state, the planner rules, the plan is switched."""
