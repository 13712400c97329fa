"""What bench/compare is made of. Pure: cases, figures, report, chart. The rest talks to processes."""
