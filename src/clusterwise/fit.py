from clusterwise.assembly.units import in_data_units
class Fit:
    @classmethod
    def from_outcome(cls, model, engine, assembled, outcome, seconds):
        s=cls(); s.model=model; s.assembled=assembled; s.outcome=outcome; s.seconds=seconds
        s.values=in_data_units(assembled.prepared.layout,outcome.parameters)
        s.log_likelihood=[o.log_likelihood for o in outcome.optima if o.chosen][0]-assembled.prepared.layout.log_scale*assembled.prepared.source.total_weight
        s.restarts=[(round(o.log_likelihood-assembled.prepared.layout.log_scale*assembled.prepared.source.total_weight,5),o.reached,o.recipes,o.degenerate,o.chosen) for o in outcome.optima]
        return s
